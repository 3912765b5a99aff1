// A backend in another language at a hub in earnest: `connhub serve`, with keys and secrets.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { CallError, counts, dial, methods, reached } from './backend.mjs';
import { awaited, freePort, scratch, startHub } from './hub.mjs';

const secret = randomBytes(32).toString('hex');
const ttl = 60; // of a client's token, in seconds

describe('backend', () => {
  let backend, data, hub, origin;

  before(async () => {
    data = await scratch();
    const [key, secrets] = [join(data.path, 'token.key'), join(data.path, 'backend.secrets')];
    await writeFile(key, randomBytes(48).toString('base64'), { mode: 0o600 });
    await writeFile(secrets, `# the only one\n${secret}\n`, { mode: 0o600 });
    // The address must be known before the start: it is in the public URL, and so in each token.
    const address = `127.0.0.1:${await freePort()}`;
    origin = `http://${address}`;
    hub = await startHub(
      'serve', '--single-hub', `--listen-clients=${address}`, '--listen-control=127.0.0.1:0', '--listen-ops=127.0.0.1:0',
      `--public-url=${origin}`, `--token-key-file=${key}`, `--backend-secret-file=${secrets}`,
    );
    backend = dial(hub.control, secret);
  });

  after(async () => {
    backend?.close();
    await hub?.stop();
    await data?.remove();
  });

  /** Issues a token and connects with its URL. */
  async function client(t, user, ...groups) {
    const asked = Date.now() / 1000;
    const issued = await backend.call('AccessService.IssueClientToken', { user, groups, ttl: { seconds: ttl } });
    const answered = Date.now() / 1000;
    const socket = new WebSocket(issued.url, 'json.connhub.v1');
    t.after(() => socket.terminate());
    const inbox = inboxOf(socket);
    await awaited(`${user} is let in`, once(socket, 'open'));
    const { connectionId } = await inbox.next();
    return { ...issued, asked, answered, socket, inbox, id: connectionId };
  }

  test('every method of the API', async (t) => {
    const ann = await client(t, 'ann', 'blue');
    await client(t, 'bob', 'blue');
    assert.ok(ann.url.startsWith(`${origin.replace('http', 'ws')}/client/hubs/default?`), ann.url);
    assert.ok(ann.url.includes(ann.token));
    const expires = ann.expire_time.seconds;
    assert.ok(expires >= ann.asked + ttl - 1 && expires <= ann.answered + ttl + 1,
      `asked for at ${ann.asked}, answered at ${ann.answered}, good until ${expires}`);

    const { connection } = await backend.call('ConnectionService.GetConnection', { connection: ann.id });
    const { id, namespace, user, groups, protocol, state } = connection;
    assert.deepEqual({ id, namespace, user, groups, protocol, state }, {
      id: ann.id, namespace: 'default', user: 'ann', groups: ['blue'], protocol: 'json.connhub.v1', state: 'CONNECTION_STATE_ATTACHED',
    });

    const added = await backend.call('GroupService.AddToGroups', { target: { users: ['ann', 'nobody'] }, groups: ['red', 'blue'] });
    assert.deepEqual(added, { matched: 1, added: 1, already: 1, refused: 0, refusals: [], closed: 0, ...reached });
    assert.deepEqual(await backend.call('GroupService.GetGroup', { group: 'red' }), { group: { name: 'red', members: 1 }, ...reached });
    const listed = [];
    for (let token = ''; ;) {
      const page = await backend.call('GroupService.ListGroups', { page_size: 1, page_token: token });
      listed.push(...page.groups);
      token = page.next_page_token;
      if (token === '') break;
    }
    assert.deepEqual(listed.sort((a, b) => a.name.localeCompare(b.name)), [{ name: 'blue', members: 2 }, { name: 'red', members: 1 }]);

    const receipt = await backend.send(
      { groups: ['red', 'blue', 'grey'], users: ['ann', 'nobody'], except: { users: ['bob'] } },
      { json: '{"hello": "world"}', event: 'greeting' },
      { detail: 'RECEIPT_DETAIL_TARGETS', request_id: 'r1' },
    );
    assert.deepEqual(counts(receipt), { matched: 1, written: 1, dropped: 0 });
    assert.deepEqual(receipt.unmatched, { connections: [], users: ['nobody'], groups: ['grey'] });
    const { type, route, event, dataType, data: payload } = await ann.inbox.next();
    assert.deepEqual({ type, route, event, dataType, payload }, {
      type: 'message', route: 'user', event: 'greeting', dataType: 'json', payload: { hello: 'world' },
    });

    const results = await backend.stream([
      { target: { users: ['ann'] }, message: { text: 'streamed 1' }, wait: 'WAIT_WRITTEN' },
      { message: { text: 'nobody' } },
      { target: { connections: [ann.id] }, message: { text: 'streamed 2' }, wait: 'WAIT_WRITTEN' },
    ]);
    results.sort((a, b) => a.sequence - b.sequence);
    assert.deepEqual(results.map(({ sequence, outcome }) => [sequence, outcome]), [[1, 'receipt'], [2, 'error'], [3, 'receipt']]);
    assert.deepEqual(counts(results[2].receipt), { matched: 1, written: 1, dropped: 0 });
    assert.deepEqual([(await ann.inbox.next()).data, (await ann.inbox.next()).data], ['streamed 1', 'streamed 2']);

    const permissions = [{ action: 'PERMISSION_ACTION_SEND_TO_GROUP', group: 'blue' }];
    const may = async () => (await backend.call('AccessService.CheckPermissions', { target: { groups: ['blue'] }, permissions })).allowed;
    assert.equal(await may(), 0);
    const changed = { matched: 1, changed: 1, refused: 0, refusals: [], closed: 0, ...reached };
    assert.deepEqual(await backend.call('AccessService.GrantPermissions', { target: { users: ['ann'] }, permissions }), changed);
    assert.equal(await may(), 1);
    assert.deepEqual(await backend.call('AccessService.RevokePermissions', { target: { users: ['ann'] }, permissions }), changed);
    assert.equal(await may(), 0);

    const removed = await backend.call('GroupService.RemoveFromGroups', { target: { connections: [ann.id] }, all_groups: true });
    assert.deepEqual(removed, { matched: 1, removed: 2, ...reached });
    const { hubs } = await backend.call('HubService.ListHubs');
    assert.deepEqual(hubs.map(({ id, self, connections }) => ({ id, self, connections })), [{ id: connection.hub, self: true, connections: 2 }]);

    const gone = once(ann.socket, 'close');
    const closed = await backend.call('ConnectionService.CloseConnections', { target: { everyone: true }, max_matched: 2, code: 3000, reason: 'bye' });
    assert.deepEqual(closed, { matched: 2, closed: 2, ...reached });
    const [code, reason] = await awaited('the close', gone);
    assert.deepEqual([code, `${reason}`], [3000, 'bye']);
    const { connections } = await backend.call('ConnectionService.ListConnections', { target: { everyone: true } });
    assert.deepEqual(connections, []);

    await assert.rejects(backend.rebalance(), error('UNIMPLEMENTED', 'UNKNOWN_METHOD'));
    assert.deepEqual([...backend.called].sort(), methodsHere.filter((name) => name !== 'HubService.DrainHub'),
      'no other method was left out');
  });

  test('a retry with the same request id delivers nothing again', async (t) => {
    const cat = await client(t, 'cat');
    const send = (text) => backend.send({ users: ['cat'] }, { text }, { request_id: 'once' });
    const [first, second] = [await send('1'), await send('1')];
    assert.deepEqual([first.duplicate, second.duplicate], [false, true]);
    assert.equal(second.message_id, first.message_id);
    assert.deepEqual(counts(second), counts(first));
    await assert.rejects(send('other'), error('ALREADY_EXISTS', 'REQUEST_ID_REUSED'));
    await backend.send({ users: ['cat'] }, { text: 'end' });
    assert.deepEqual([(await cat.inbox.next()).data, (await cat.inbox.next()).data], ['1', 'end']);
  });

  for (const [name, method, request, ...want] of [
    ['no target', 'DeliveryService.Send', { message: { text: 'x' } }, 'INVALID_ARGUMENT', 'TARGET_EMPTY', 'target'],
    ['an empty target', 'DeliveryService.Send', { target: {}, message: { text: 'x' } }, 'INVALID_ARGUMENT', 'TARGET_EMPTY', 'target'],
    ['no payload', 'DeliveryService.Send', { target: { everyone: true }, message: {} }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'message.payload'],
    ['broken JSON', 'DeliveryService.Send', { target: { everyone: true }, message: { json: '{' } }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'message.json'],
    ['JSON given as an object', 'DeliveryService.Send', { target: { everyone: true }, message: { json: { score: 3 } } }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'message.json'],
    ['a payload over 1 MiB', 'DeliveryService.Send', { target: { everyone: true }, message: { binary: Buffer.alloc(2 ** 20 + 1) } }, 'INVALID_ARGUMENT', 'LIMIT_EXCEEDED', 'message.binary'],
    ['a user name over 1,024 bytes', 'DeliveryService.Send', { target: { users: ['a', 'ü'.repeat(513)] }, message: { text: 'x' } }, 'INVALID_ARGUMENT', 'LIMIT_EXCEEDED', 'target.users[1]'],
    ['too many targets', 'DeliveryService.Send', { target: { users: Array.from({ length: 10_001 }, (_, i) => `u${i}`) }, message: { text: 'x' } }, 'INVALID_ARGUMENT', 'LIMIT_EXCEEDED', 'target'],
    ['a bad namespace', 'GroupService.ListGroups', { namespace: 'No' }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'namespace'],
    ['a foreign page token', 'GroupService.ListGroups', { page_token: 'bm8' }, 'INVALID_ARGUMENT', 'PAGE_TOKEN_INVALID', 'page_token'],
    ['a bad close code', 'ConnectionService.CloseConnections', { target: { users: ['x'] }, code: 1005 }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'code'],
    ['closing everyone without a bound', 'ConnectionService.CloseConnections', { target: { everyone: true } }, 'INVALID_ARGUMENT', 'INVALID_FIELD', 'max_matched'],
    ['an unknown connection', 'ConnectionService.GetConnection', { connection: 'x' }, 'NOT_FOUND', 'CONNECTION_NOT_FOUND'],
    ['an unknown group', 'GroupService.GetGroup', { group: 'x' }, 'NOT_FOUND', 'GROUP_NOT_FOUND'],
  ]) {
    test(`${name}: ${want.join(' ')}`, () => assert.rejects(backend.call(method, request), error(...want)));
  }

  test('a call without the secret, or with another one, is UNAUTHENTICATED', async () => {
    for (const wrong of [undefined, `${secret}x`, randomBytes(32).toString('hex')]) {
      const stranger = dial(hub.control, wrong);
      await assert.rejects(stranger.call('HubService.ListHubs'), error('UNAUTHENTICATED', 'CREDENTIALS_INVALID'));
      stranger.close();
    }
  });

  test('a client without a token, or with one that is not for it, is answered 401', async () => {
    const { url, token } = await backend.call('AccessService.IssueClientToken', { user: 'dan' });
    const other = await backend.call('AccessService.IssueClientToken', { user: 'dan', namespace: 'other' });
    for (const wrong of [
      url.replace(/\?.*/, ''),
      url.replace(token, 'x'),
      url.replace(token, token.replace(/\.[^.]*$/, `.${randomBytes(32).toString('base64url')}`)),
      url.replace(token, other.token),
    ]) {
      const { status, type, body } = await refusal(wrong);
      assert.deepEqual([status, type], [401, 'application/problem+json']);
      assert.equal(JSON.parse(body).status, 401);
      assert.ok(!body.includes(token), 'the answer does not show the token');
    }
    const { connections } = await backend.call('ConnectionService.ListConnections', { target: { users: ['dan'] } });
    assert.deepEqual(connections, []);
    assert.ok(!hub.log.some((line) => line.includes(token)), 'the log does not show the token');
  });

  // The last test: the hub serves nothing else afterwards.
  test('a drain closes the clients, and its stream ends when the hub is drained', async (t) => {
    await assert.rejects(backend.drain('x'), error('NOT_FOUND', 'HUB_NOT_FOUND'));
    const eve = await client(t, 'eve');
    const closed = once(eve.socket, 'close');
    const { hubs: [{ id }] } = await backend.call('HubService.ListHubs');
    const reports = await backend.drain(id);
    const { phase, connections } = reports.at(-1);
    assert.deepEqual({ phase, connections }, { phase: 'DRAIN_PHASE_DRAINED', connections: 0 });
    const [code] = await awaited('the close', closed);
    assert.equal(code, 1001);
    assert.deepEqual([...backend.called].sort(), methodsHere, 'no method was left out');
  });
});

/** The methods of a hub that has no cluster, sorted. */
const methodsHere = methods.filter((name) => name !== 'HubService.RebalanceHubs').sort();

/** A check of a rejection: its code, its reason and the field that it names. */
const error = (code, reason, field) => (err) => {
  assert.ok(err instanceof CallError, err.stack);
  assert.deepEqual(
    { code: err.code, reason: err.reason, domain: err.domain, field: err.fields?.[0] },
    { code, reason, domain: 'connhub', field },
    err.message,
  );
  return true;
};

/**
 * The parsed messages of a socket. `next` resolves to the next message, and rejects when the socket
 * is closed before.
 */
function inboxOf(socket) {
  const waiting = [];
  const arrived = [];
  const lost = new Promise((_, reject) => {
    socket.on('close', (code, reason) => reject(new Error(`no message, and then the close ${code} ${reason}`)));
  });
  lost.catch(() => {}); // next tells
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    const taker = waiting.shift();
    if (taker) taker(message);
    else arrived.push(message);
  });
  return {
    async next() {
      if (arrived.length > 0) return arrived.shift();
      return awaited('a message', new Promise((resolve) => { waiting.push(resolve); }), lost);
    },
  };
}

/** How a hub answers a client that it does not let in. */
async function refusal(url) {
  const socket = new WebSocket(url);
  const letIn = once(socket, 'open').then(() => { throw new Error('the client is let in'); });
  const [request, response] = await awaited('a refusal', once(socket, 'unexpected-response'), letIn);
  let body = '';
  for await (const chunk of response) body += chunk;
  request.destroy();
  return { status: response.statusCode, type: response.headers['content-type'], body };
}
