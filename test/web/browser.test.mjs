// A page in a real browser gets the messages that a backend in another language sends.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { counts, dial, reached } from './backend.mjs';
import { closed, connect, launch, messages, newContext, serveApplication } from './browser.mjs';
import { anyPorts, scratch, startHub } from './hub.mjs';

const results = fileURLToPath(new URL('../results/', import.meta.url));

const envelope = 'json.connhub.v1';
const words = 'Grüße, 世界 👋 \u0000 "quoted" \u2028';
const json = '{"price": 1.10, "big": 12345678901234567890, "ключ": [null, true, "\\u00e9"], "z":1, "a":2}';
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

describe('browser', () => {
  let app, backend, browser, data, hub, page;

  before(async () => {
    data = await scratch();
    hub = await startHub('dev', ...anyPorts, `--data-dir=${data.path}`);
    backend = dial(hub.control);
    app = await serveApplication();
    browser = await launch();
    await mkdir(results, { recursive: true });
  });

  after(async () => {
    await browser?.close();
    backend?.close();
    app?.close();
    await hub?.stop();
    await data?.remove();
  });

  /** An application's page of its own; its sockets end with it. */
  async function open(t) {
    const context = await newContext(browser);
    t.after(() => context.close());
    page = await context.newPage();
    await page.goto(app.url);
    return page;
  }

  const url = (user, ...groups) => {
    const query = new URLSearchParams([['user', user], ...groups.map((group) => ['group', group])]);
    return `ws://${hub.clients}/client/hubs/default?${query}`;
  };

  test('a plain page gets text, JSON and binary, sent to it in every way, unchanged', async (t) => {
    const page = await open(t);
    assert.equal(await connect(page, 'ann', url('plain-ann', 'plain-blue')), '');
    await connect(page, 'bob', url('plain-bob'));
    const [id] = await backend.connectionsOf('plain-ann');

    const targets = [{ connections: [id] }, { users: ['plain-ann'] }, { groups: ['plain-blue'] }, { everyone: true }];
    const payloads = [{ text: words }, { json }, { binary: everyByte }];
    for (const target of targets) {
      for (const payload of payloads) {
        const matched = target.everyone ? 2 : 1;
        assert.deepEqual(counts(await backend.send(target, payload)), { matched, written: matched, dropped: 0 });
      }
    }

    const once = [{ text: words }, { text: json }, { bytes: [...everyByte] }];
    assert.deepEqual(await messages(page, 'ann', 12), [...once, ...once, ...once, ...once]);
    assert.deepEqual(await messages(page, 'bob', 3), once, 'bob gets what is for everyone');
  });

  test('a page that compresses gets and sends what is much larger than what goes over the wire', async (t) => {
    const hub = await startHub('serve', '--single-hub', '--insecure-dev', '--compression',
      '--listen-clients=127.0.0.1:0', '--listen-control=127.0.0.1:0', '--listen-ops=127.0.0.1:0');
    t.after(() => hub.stop());
    const backend = dial(hub.control);
    t.after(() => backend.close());
    const page = await open(t);
    await connect(page, 'zip', `ws://${hub.clients}/ws?user=zip`);
    assert.equal(await page.evaluate(() => window.clients.zip.socket.extensions),
      'permessage-deflate; client_no_context_takeover; server_no_context_takeover');

    const long = words.repeat(5000);
    const bytes = Buffer.byteLength(long);
    assert.deepEqual(counts(await backend.send({ users: ['zip'] }, { text: long })), { matched: 1, written: 1, dropped: 0 });
    assert.deepEqual(await messages(page, 'zip', 1), [{ text: long }]);
    assert.equal(await hub.metric('connhub_deflate_input_bytes_total'), bytes);
    assert.ok(await hub.metric('connhub_deflate_output_bytes_total') < bytes / 50);

    await page.evaluate((text) => {
      const { socket } = window.clients.zip;
      socket.send(text);
      socket.close(); // answered when all before it was read
    }, long);
    await closed(page, 'zip');
    assert.equal(await hub.metric('connhub_client_message_bytes_total'), bytes);
  });

  test('a page that speaks json.connhub.v1 learns its id, and the route of each message', async (t) => {
    const page = await open(t);
    assert.equal(await connect(page, 'cat', url('json-cat', 'json-blue', 'json-red'), [envelope]), envelope);
    const [greeting] = (await messages(page, 'cat', 1)).map(({ text }) => JSON.parse(text));
    const [id] = await backend.connectionsOf('json-cat');
    const { hubs } = await backend.call('HubService.ListHubs');
    assert.deepEqual(greeting, { type: 'connected', connectionId: id, user: 'json-cat', hub: hubs[0].id });

    const metadata = { trace: 'ä' };
    const sends = [
      [{ connections: [id] }, { text: words, event: 'greet' }, { route: 'connection', event: 'greet', dataType: 'text', data: words }],
      [{ users: ['json-cat'] }, { json: '{"n":1.50}', metadata }, { route: 'user', metadata, dataType: 'json', data: { n: 1.5 } }],
      [{ groups: ['json-red'] }, { binary: everyByte }, { route: 'group', group: 'json-red', dataType: 'binary', data: everyByte.toString('base64') }],
      [{ everyone: true }, { text: '' }, { route: 'everyone', dataType: 'text', data: '' }],
    ];
    const want = [];
    for (const [target, message, shown] of sends) {
      const receipt = await backend.send(target, message);
      assert.deepEqual(counts(receipt), { matched: 1, written: 1, dropped: 0 });
      want.push({ type: 'message', id: receipt.message_id, ...shown });
    }
    const got = (await messages(page, 'cat', 1 + sends.length)).slice(1);
    assert.deepEqual(got.map(({ text }) => JSON.parse(text)), want);

    await backend.send({ users: ['json-cat'] }, { json });
    const [last] = (await messages(page, 'cat', 2 + sends.length)).slice(-1);
    assert.ok(last.text.includes(`"data":${json}`), `JSON is passed on byte for byte: ${last.text}`);
  });

  test('a message that is sent in the very moment of onopen arrives', async (t) => {
    const page = await open(t);
    const rounds = 20;
    await page.exposeFunction('sendNow', async (user) => counts(await backend.send({ users: [user] }, { text: `hello ${user}` })));
    const got = await page.evaluate(async ([url, rounds]) => {
      const all = [];
      for (let i = 0; i < rounds; i++) {
        const user = `open-${i}`;
        const socket = new WebSocket(`${url}${i}`);
        const lost = new Promise((_, reject) => {
          socket.onclose = ({ code, reason }) => reject(new Error(`${user} is closed: ${code} ${reason}`));
        });
        const arrived = new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(data); });
        const opened = new Promise((resolve) => { socket.onopen = () => resolve(window.sendNow(user)); });
        const receipt = await Promise.race([opened, lost]);
        all.push({ receipt, data: receipt.matched === 1 ? await Promise.race([arrived, lost]) : null });
        lost.catch(() => {}); // from here on it is this page that closes it
        socket.close();
      }
      return all;
    }, [url('open-'), rounds]);
    assert.deepEqual(got, Array.from({ length: rounds }, (_, i) => (
      { receipt: { matched: 1, written: 1, dropped: 0 }, data: `hello open-${i}` })));
  });

  test('a page gets what is sent to a group while a backend has it in there', async (t) => {
    const page = await open(t);
    await connect(page, 'dan', url('join-dan'));
    const target = { users: ['join-dan'] };
    const group = { groups: ['join-late'] };
    const send = async (text) => counts(await backend.send(group, { text }));

    assert.equal((await send('before')).matched, 0);
    const joined = await backend.call('GroupService.AddToGroups', { target, ...group });
    assert.deepEqual(joined, { matched: 1, added: 1, already: 0, refused: 0, refusals: [], closed: 0, ...reached });
    assert.equal((await send('inside')).matched, 1);
    const left = await backend.call('GroupService.RemoveFromGroups', { target, ...group });
    assert.deepEqual(left, { matched: 1, removed: 1, ...reached });
    assert.equal((await send('after')).matched, 0);
    await backend.send(target, { text: 'end' });
    assert.deepEqual(await messages(page, 'dan', 2), [{ text: 'inside' }, { text: 'end' }]);
  });

  test('the code and reason with which a backend closes reach onclose', async (t) => {
    const page = await open(t);
    await connect(page, 'eve', url('close-eve'));
    await connect(page, 'fay', url('close-fay'), [envelope]);
    const answer = await backend.call('ConnectionService.CloseConnections', {
      target: { users: ['close-eve', 'close-fay'] }, code: 4001, reason: 'plan changed: ändern',
    });
    assert.deepEqual(answer, { matched: 2, closed: 2, ...reached });
    const want = { code: 4001, reason: 'plan changed: ändern', wasClean: true };
    assert.deepEqual(await closed(page, 'eve'), want);
    assert.deepEqual(await closed(page, 'fay'), want);
    assert.deepEqual(await backend.connectionsOf('close-eve'), []);
  });

  test('fifty sockets of one page each get every message once and in order', async (t) => {
    const page = await open(t);
    const sockets = 50;
    const rounds = 40;
    for (let i = 0; i < sockets; i++) await connect(page, `tab-${i}`, url(`tab-${i}`, 'tabs', i % 2 ? 'odd' : 'even'));

    const want = { even: [], odd: [] };
    for (let i = 0; i < rounds; i++) {
      const [groups, matched] = [[['tabs'], sockets], [['even'], sockets / 2], [['even', 'odd', 'tabs'], sockets]][i % 3];
      assert.deepEqual(counts(await backend.send({ groups }, { text: `${i}` })), { matched, written: matched, dropped: 0 });
      want.even.push({ text: `${i}` });
      if (matched === sockets) want.odd.push({ text: `${i}` });
    }
    for (let i = 0; i < sockets; i++) {
      const expected = i % 2 ? want.odd : want.even;
      assert.deepEqual(await messages(page, `tab-${i}`, expected.length), expected, `tab-${i}`);
    }
  });

  for (const [name, viewport, colorScheme] of [
    ['desktop', { width: 1280, height: 800 }, 'light'],
    ['phone', { width: 375, height: 740 }, 'dark'],
  ]) {
    test(`the page that dev serves shows each message with its route (${name})`, async (t) => {
      const context = await newContext(browser, { viewport, colorScheme });
      t.after(() => context.close());
      const page = await context.newPage();
      const complaints = [];
      page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
      page.on('pageerror', (err) => complaints.push(err.message));

      const user = `demo-${name}`;
      await page.goto(`http://${hub.clients}/?user=${user}&group=blue&group=red`);
      const id = await connectionShown(page, user);
      await backend.send({ connections: [id] }, { text: `words for ${name}: ${words}` });
      await backend.send({ users: [user] }, { json: '{"n": 1}', event: 'count' });
      await backend.send({ groups: ['blue'] }, { binary: Buffer.from([0xca, 0xfe, 0x00]) });
      await backend.send({ everyone: true }, { text: '<b>no markup</b>' });

      for (const [route, content] of [
        ['to you', `words for ${name}: Grüße`],
        [`to user ${user}`, 'count'],
        ['to group blue', 'ca fe 00'],
        ['to everyone', '<b>no markup</b>'],
      ]) {
        const entry = page.getByRole('listitem').filter({ hasText: route }).filter({ hasText: content });
        await entry.first().waitFor();
        assert.equal(await entry.count(), 1, `one message ${route} with ${content}`);
      }
      await page.screenshot({ path: `${results}page-${name}.png`, fullPage: true, animations: 'disabled' });
      const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
      assert.ok(wide <= width, `the page is ${wide} px wide in a window of ${width}`);
      assert.deepEqual(complaints, [], 'the browser complains about nothing');
    });
  }

  /** The id that the page shows, once it is the id that the hub has for the user. */
  async function connectionShown(page, user) {
    await page.getByText(/[a-z2-7]{8}\.[a-z2-7]{26}/).first().waitFor();
    const [id] = await backend.connectionsOf(user);
    await page.getByText(id).first().waitFor();
    return id;
  }
});
