// Scenarios of an application with Microsoft's client SDK. The same code runs in Node and, bundled,
// in a browser. `backend` has a backend call a hub, for a page or a test.

import { WebPubSubClient, WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from '@azure/web-pubsub-client';

const protocols = { reliable: WebPubSubJsonReliableProtocol, plain: WebPubSubJsonProtocol };

/**
 * A client with all that happened to it. `until` resolves when a condition on that is true, and
 * rejects when the client has lost its connection: no wait ends well after that. `during` waits for
 * something else in the same way. `stop` ends the client.
 */
function client(url, protocol = 'reliable', options = {}) {
  const sdk = new WebPubSubClient({ getClientAccessUrl: async () => url }, { protocol: protocols[protocol](), ...options });
  const seen = { connected: [], disconnected: 0, stopped: 0, messages: [] };
  const waiting = new Set();
  let stopping = false;
  const lost = () => seen.connected.length > 1 || (seen.disconnected > 0 && !stopping);
  const look = () => waiting.forEach((one) => one());
  const note = (change) => (event) => { change(event); look(); };
  sdk.on('connected', note(({ connectionId, userId }) => seen.connected.push({ connectionId, userId })));
  sdk.on('disconnected', note(() => { seen.disconnected++; }));
  sdk.on('stopped', note(() => { seen.stopped++; }));
  sdk.on('group-message', note(({ message }) => seen.messages.push({ from: 'group', group: message.group, sender: message.fromUserId, ...content(message) })));
  sdk.on('server-message', note(({ message }) => seen.messages.push({ from: 'server', ...content(message) })));
  const until = (what, condition, limit = 300_000) => new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${what}: ${why}; seen ${JSON.stringify(seen).slice(0, 2000)}`));
    const end = (settle, why) => {
      clearTimeout(timer);
      waiting.delete(one);
      settle(why);
    };
    const timer = setTimeout(() => end(fail, `not in ${limit} ms`), limit);
    const one = () => {
      if (condition(seen)) end(resolve);
      else if (lost()) end(fail, 'the connection is lost');
    };
    waiting.add(one);
    one();
  });
  const during = async (what, promise) => {
    let done = false;
    const finished = promise.finally(() => { done = true; look(); });
    await Promise.race([finished, until(what, () => done)]);
    return finished;
  };
  const stop = async () => {
    stopping = true;
    sdk.stop();
    await until('stopped', ({ stopped }) => stopped === 1);
  };
  return { sdk, seen, until, during, stop };
}

/** The content of a message, in a form that crosses from a page to a test. */
function content({ dataType, data }) {
  return { dataType, data: data instanceof ArrayBuffer || ArrayBuffer.isView(data) ? [...new Uint8Array(data)] : data };
}

const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);

/** Every step of an application in fair weather. Resolves to its acks and to all that it saw. */
export async function everything(url, backend, protocol) {
  const { sdk, seen, until, stop } = client(url, protocol, { messageRetryOptions: { maxRetries: 1, retryDelayInMs: 1 } });
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  const { connectionId } = seen.connected[0];
  const acks = {};
  acks.join = await sdk.joinGroup('blue');
  acks.send = await sdk.sendToGroup('blue', 'text ä', 'text');
  await sdk.sendToGroup('blue', { n: [1, '2', null] }, 'json');
  await sdk.sendToGroup('blue', bytes.buffer, 'binary');
  await sdk.sendToGroup('blue', 'nobody hears this here', 'text', { noEcho: true });
  await sdk.sendToGroup('blue', 'and forgotten', 'text', { fireAndForget: true });
  await until('its own messages', ({ messages }) => messages.length === 4);

  acks.once = await sdk.sendToGroup('blue', 'once', 'text', { ackId: 4711 });
  acks.twice = await sdk.sendToGroup('blue', 'once', 'text', { ackId: 4711 });
  acks.largest = await outcome(sdk.sendToGroup('blue', new ArrayBuffer(1 << 20), 'binary', { noEcho: true })); // 4/3 of it on the wire
  acks.event = await outcome(sdk.sendEvent('clicked', { x: 1 }, 'json')); // no backend subscribes
  await sdk.sendEvent('clicked', { x: 1 }, 'json', { fireAndForget: true });

  await backend('send', { connections: [connectionId] }, { text: 'to the connection' });
  await backend('send', { users: [seen.connected[0].userId] }, { json: '{"to":"user"}' });
  await backend('send', { groups: ['blue'] }, { binary: [0, 255] });
  await until('the messages of a backend', ({ messages }) => messages.length === 8);

  await sdk.leaveGroup('blue');
  const left = await backend('send', { groups: ['blue'] }, { text: 'to nobody' });
  await backend('send', { everyone: true }, { text: 'the end' });
  await until('the end', ({ messages }) => messages.length === 9);
  await stop();
  return { acks, left, seen };
}

/** Tells the backends something in each form, and stops. */
export async function tell(url) {
  const { sdk, seen, until, stop } = client(url);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  await sdk.sendEvent('typed', 'text ä', 'text');
  await sdk.sendEvent('clicked', { n: [1, '2', null] }, 'json');
  await sdk.sendEvent('drawn', bytes.buffer, 'binary');
  await sdk.sendEvent('packed', bytes.buffer, 'protobuf');
  await sdk.sendEvent('left', '', 'text', { fireAndForget: true });
  await stop();
  return seen.connected[0];
}

/** Two clients of a group. Resolves to the sender's messages that each of them got. */
export async function together(senderURL, memberURL) {
  const sender = client(senderURL), member = client(memberURL, 'plain');
  for (const { sdk, until } of [sender, member]) {
    await sdk.start();
    await until('connected', ({ connected }) => connected.length === 1);
    await sdk.joinGroup('pair');
  }
  await sender.sdk.sendToGroup('pair', 'to both', 'text');
  await sender.sdk.sendToGroup('pair', 'to the other one', 'text', { noEcho: true });
  await sender.sdk.sendToGroup('pair', bytes.buffer, 'protobuf');
  await sender.sdk.sendToGroup('pair', 'the end', 'text');
  for (const { until, stop } of [sender, member]) {
    await until('the end', ({ messages }) => messages.some(({ data }) => data === 'the end'));
    await stop();
  }
  return { sender: sender.seen.messages, member: member.seen.messages };
}

/** For clients that are cut off: their requests wait until they are back. */
const askUntilBack = { messageRetryOptions: { maxRetries: 300, retryDelayInMs: 1000 } };

/**
 * A member of a group that is cut off again and again under a steady stream of numbered messages.
 * `cut(i)` cuts, `begin` starts the stream, `end` ends it and resolves to its number of messages.
 */
export async function cutOff(url, group, cuts, { begin, cut, end }) {
  const { sdk, seen, until, during, stop } = client(url, 'reliable', askUntilBack);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  await sdk.joinGroup(group);
  await begin();
  for (let i = 0; i < cuts; i++) {
    // Sometimes in the middle of a replay, sometimes when all is well.
    const wanted = seen.messages.length + (i % 7) * 3;
    await until(`message ${wanted} after ${i} cuts`, ({ messages }) => messages.length >= wanted);
    await during(`cut ${i}`, cut(i));
  }
  const count = await during('the end of the stream', end());
  await until(`all ${count} messages`, ({ messages }) => messages.length >= count);
  const numbers = seen.messages.map(({ data }) => Number(data));
  const wrong = numbers.findIndex((n, i) => n !== i);
  // Answered when it is back from the last cut: stop() does nothing while it is away.
  await during('the way back', sdk.leaveGroup('none'));
  await stop();
  return { count, received: numbers.length, wrong, around: numbers.slice(Math.max(0, wrong - 3), wrong + 4), connected: seen.connected, disconnected: seen.disconnected };
}

/**
 * For clients that are refused: the SDK asks again as often as ever, but does not wait a second
 * before each time.
 */
const askAgainAtOnce = { messageRetryOptions: { retryDelayInMs: 1 } };

/** The outcome of a client's request: "done", or the name of the error. */
const outcome = (promise) => promise.then(() => 'done', (err) => err.errorDetail?.name ?? String(err));

/**
 * Joins and sends to a group before it may, when it may, and when it may not any more. Resolves to
 * the outcomes, and to the messages that it got.
 */
export async function permittedMeanwhile(url, group, { grant, revoke }) {
  const { sdk, seen, until, stop } = client(url, 'reliable', askAgainAtOnce);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  const { connectionId } = seen.connected[0];
  const attempt = () => Promise.all([outcome(sdk.joinGroup(group)), outcome(sdk.sendToGroup(group, 'hello', 'text'))]);
  const before = await attempt();
  await grant(connectionId);
  const granted = await attempt();
  await until('its own message', ({ messages }) => messages.length === 1);
  await revoke(connectionId);
  const revoked = await attempt();
  await stop();
  return { before, granted, revoked, messages: seen.messages };
}

/** The outcome of a request that the hub does not support: the name of the error that it gave. */
const refusal = (promise) => promise.then(() => 'done', (err) => err.errorDetail?.name ?? err.name);

/**
 * Makes requests that the hub does not support, and then requests that it does: the connection must
 * still be there, with its group.
 */
export async function unsupported(url, protocol) {
  const { sdk, seen, until, stop } = client(url, protocol);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  await sdk.joinGroup('kept');
  const [invoked, streamed] = await Promise.all([
    refusal(sdk.invokeEvent('ask', { x: 1 }, 'json')),
    refusal(sdk.openGroupStream('kept')),
  ]);
  await sdk.sendToGroup('kept', 'still a member', 'text');
  await until('its own message', ({ messages }) => messages.length === 1);
  const { connected, disconnected } = seen;
  await stop();
  return { invoked, streamed, connected: connected.length, disconnected, messages: seen.messages.map(({ data }) => data) };
}

/**
 * Connects, does the deeds, which need permission, waits for `count` messages, and stops. Resolves
 * to the names of the errors, and to the messages.
 */
export async function permitted(url, deeds, count = 0) {
  const { sdk, seen, until, stop } = client(url, 'reliable', askAgainAtOnce);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  const results = [];
  for (const [what, ...args] of deeds) results.push(await outcome(sdk[what](...args, { ackId: 1000 + results.length })));
  await until('messages', ({ messages }) => messages.length === count);
  await stop();
  return { results, userId: seen.connected[0].userId, messages: seen.messages.map(({ group, data }) => [group, data]) };
}

/** For clients that publish while they lose connections: they repeat soon, with the same ack id. */
const publishUntilBack = { messageRetryOptions: { maxRetries: 1_000_000, retryDelayInMs: 20 } };

/** How many publishes a client has under way at once. Each is one of a series of its own. */
const publishers = 3;

/** The pause behind a publish, in ms, so that other processes have cores as well. */
const pace = 2;

/**
 * A publisher looks at every so many publishes how far the listeners are. While they are more
 * than `lead` publishes behind, it makes long pauses (ms), so that their outboxes do not overflow
 * (1,000 messages). It does not stop: a hub may have left publishes out for a slow peer.
 */
const checkEvery = 16;
const lead = 48;
const slowPace = 100;

/** How often the callers learn how much the client has read, in messages. */
const reportEvery = 16;

/**
 * A client that loses its connection again and again, while callers send numbered messages to its
 * id, its user and `group`. Meanwhile it publishes to `talk`, with ack ids of its own. The text of
 * a message is SERIES:NUMBER; a series ends with SERIES:end.
 *
 * `begin(id)` starts the callers, `read(n)` tells them how many messages came, `drop(i)` drops, and
 * `end` ends the callers and resolves to the names of their series. `heard(series, n)` resolves to
 * whether the listeners of `talk` have the message n of a series, or a message behind it. Without
 * n: whether they have its end.
 *
 * Resolves to the texts of all messages, the numbers of publishes, and how many of them the hub
 * answered as done before.
 */
export async function comeBack(url, { group, talk, drops }, { begin, read, drop, end, heard }) {
  const { sdk, seen, until, during, stop } = client(url, 'reliable', publishUntilBack);
  const ended = new Set(); // names of series
  let callers = 0; // messages of callers that came
  const note = ({ message: { data } }) => {
    const [series, number] = data.split(':');
    if (number === 'end') ended.add(series);
    if (series.startsWith('caller') && ++callers % reportEvery === 0) read(callers);
  };
  sdk.on('group-message', note);
  sdk.on('server-message', note);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  await sdk.joinGroup(group);
  await sdk.joinGroup(talk);

  let ackId = 1_000_000; // above the ids that the SDK gives
  let repeated = 0;
  const publish = async (text) => {
    const { isDuplicated } = await sdk.sendToGroup(talk, text, 'text', { ackId: ++ackId });
    if (isDuplicated) repeated++;
  };
  let publishing = true;
  const series = Array.from({ length: publishers }, async (_, s) => {
    let n = 0;
    let wait = pace;
    while (publishing) {
      await publish(`publisher${s}:${++n}`);
      if (n % checkEvery === 0) wait = await heard(`publisher${s}`, n - lead) ? pace : slowPace;
      await new Promise((resume) => { setTimeout(resume, wait); });
    }
    return n;
  });

  await begin(seen.connected[0].connectionId);
  for (let i = 0; i < drops; i++) {
    // Sometimes in the middle of a replay, sometimes when all is well.
    const wanted = seen.messages.length + (i % 7) * 3;
    await until(`message ${wanted} after ${i} drops`, ({ messages }) => messages.length >= wanted);
    await during(`drop ${i}`, drop(i));
  }

  publishing = false;
  const published = await during('the last publishes', Promise.all(series));
  const names = await during('the end of the callers', end());
  for (let s = 0; s < publishers; s++) {
    const name = `publisher${s}`;
    do await during('the end of a series', publish(`${name}:end`)); while (!await heard(name));
    names.push(name);
  }
  await until('all series', () => names.every((name) => ended.has(name)));
  await stop();
  return {
    connected: seen.connected, disconnected: seen.disconnected, published, repeated,
    texts: seen.messages.map(({ data }) => data),
  };
}

/**
 * A member of a group. `texts` returns the texts of the messages that came, `connections` how many
 * connections it has had, and `has(series, n)` whether it has the message n of a series, or a
 * message behind it. Without n: whether it has the end of the series.
 */
export async function listen(url, group) {
  const { sdk, seen, until, stop } = client(url);
  await sdk.start();
  await until('connected', ({ connected }) => connected.length === 1);
  const last = {};
  sdk.on('group-message', ({ message: { data } }) => {
    const [series, number] = data.split(':');
    last[series] = number === 'end' ? Infinity : Number(number);
  });
  await sdk.joinGroup(group);
  const has = (series, n = Infinity) => (last[series] ?? 0) >= n;
  return { stop, has, texts: () => seen.messages.map(({ data }) => data), connections: () => seen.connected.length };
}
