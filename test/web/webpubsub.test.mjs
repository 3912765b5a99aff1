// Microsoft's Web PubSub SDKs, as npm has them, against hubs: in Node and in a browser.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { WebPubSubServiceClient } from '@azure/web-pubsub';
import { dial, everywhere } from './backend.mjs';
import { closed, connect, launch, messages, newContext, serveApplication } from './browser.mjs';
import { relay } from './flaky.mjs';
import { freePort, scratch, startCluster, startHub } from './hub.mjs';
import { places } from './places.mjs';
import * as scenarios from './scenarios.mjs';

const cuts = 200;

describe('web pubsub', () => {
  let app, backends, browser, data, hubs;

  before(async () => {
    data = await scratch();
    hubs = await startCluster(data.path);
    backends = hubs.map(({ control }) => dial(control));
    app = await serveApplication();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    app?.close();
    backends?.forEach((backend) => backend.close());
    for (const hub of hubs?.reverse() ?? []) await hub.stop();
    await data?.remove();
  });

  /** The backend of the scenarios: it calls another hub each time, never the client's own. */
  let calls = 0;
  const backend = async (what, target, { binary, ...message }) => {
    assert.equal(what, 'send');
    if (binary) message.binary = Buffer.from(binary);
    const receipt = await backends[1 + calls++ % 2].send(target, message);
    return { matched: receipt.matched, written: receipt.written };
  };

  const url = (address, user) => `ws://${address}/client/hubs/default?user=${user}`;

  for (const [place, run] of Object.entries(places(() => ({ app, browser })))) {
    for (const protocol of ['reliable', 'plain']) {
      test(`the SDK in ${place}, ${protocol}: groups, acks, payloads, events, messages of a backend`, async (t) => {
        const user = `sdk-${place}-${protocol}`;
        const { acks, left, seen } = await run(t, 'everything', url(hubs[0].clients, user), backend, protocol);
        const own = (dataType, data) => ({ from: 'group', group: 'blue', sender: user, dataType, data });
        assert.deepEqual(seen.messages, [
          own('text', 'text ä'),
          own('json', { n: [1, '2', null] }),
          own('binary', Array.from({ length: 256 }, (_, i) => i)),
          own('text', 'and forgotten'),
          own('text', 'once'),
          { from: 'server', dataType: 'text', data: 'to the connection' },
          { from: 'server', dataType: 'json', data: { to: 'user' } },
          { ...own('binary', [0, 255]), sender: seen.messages[7].sender },
          { from: 'server', dataType: 'text', data: 'the end' },
        ]);
        assert.equal(seen.messages[7].sender ?? '', '', 'a backend is no user');
        assert.deepEqual(acks, {
          join: { ackId: 1, isDuplicated: false },
          send: { ackId: 2, isDuplicated: false },
          once: { ackId: 4711, isDuplicated: false },
          twice: { ackId: 4711, isDuplicated: true },
          largest: 'done',
          event: 'NoSubscriber',
        });
        assert.deepEqual(left, { matched: 0, written: 0 });
        assert.equal(seen.connected.length, 1);
        assert.equal(seen.connected[0].userId, user);
      });
    }

    for (const protocol of ['reliable', 'plain']) {
      test(`the SDK in ${place}, ${protocol}, is told what the hub does not support, and its connection goes on`, async (t) => {
        assert.deepEqual(await run(t, 'unsupported', url(hubs[0].clients, `future-${place}-${protocol}`), protocol), {
          invoked: 'NotSupported', streamed: 'NotSupported', connected: 1, disconnected: 0, messages: ['still a member'],
        });
      });
    }

    test(`what the SDK in ${place} tells backends comes to who subscribes to its hub`, async (t) => {
      const namespace = `told-${place.toLowerCase()}`;
      const user = `tells-${place}`;
      const watching = await Promise.all(backends.map((one) => one.subscribe({ namespaces: [namespace] })));
      t.after(() => watching.forEach((one) => one.end()));
      const { connectionId } = await run(t, 'tell', `ws://${hubs[0].clients}/client/hubs/${namespace}?user=${user}`);
      const [here, ...elsewhere] = watching;
      await here.until(7);
      const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      assert.deepEqual(here.events.map(({ kind, message }) => [kind, message?.name, message?.[message.payload]]), [
        ['connected', undefined, undefined],
        ['message', 'typed', 'text ä'],
        ['message', 'clicked', '{"n":[1,"2",null]}'],
        ['message', 'drawn', everyByte],
        ['message', 'packed', everyByte],
        ['message', 'left', ''],
        ['disconnected', undefined, undefined],
      ]);
      assert.deepEqual(here.events.slice(1, 6).map(({ message }) => message.payload), ['text', 'json', 'binary', 'protobuf', 'text']);
      here.events.forEach((event, i) => assert.deepEqual(
        [event.id, event.connection, event.ordinal, event.user, event.namespace, event.protocol],
        [`${connectionId}/${i + 1}`, connectionId, i + 1, user, namespace, 'json.reliable.webpubsub.azure.v1'],
      ));
      assert.deepEqual(here.events[6].disconnected, { cause: 'DISCONNECT_CAUSE_CLIENT', code: 1005, reason: '' });
      for (const [i, there] of elsewhere.entries()) { // each hub tells of its own clients
        const other = await run(t, 'tell', `ws://${hubs[1 + i].clients}/client/hubs/${namespace}?user=${user}`);
        await there.until(7);
        assert.deepEqual(there.events.map(({ connection }) => connection), Array(7).fill(other.connectionId));
      }
      assert.equal(here.events.length, 7);
    });

    test(`two SDKs in ${place}, at different hubs: noEcho spares the sender alone, protobuf arrives byte for byte`, async (t) => {
      const user = `pair-${place}`;
      const { sender, member } = await run(t, 'together', url(hubs[0].clients, user), url(hubs[1].clients, `other-${place}`));
      const sent = (dataType, data) => ({ from: 'group', group: 'pair', sender: user, dataType, data });
      const all = [
        sent('text', 'to both'),
        sent('text', 'to the other one'),
        sent('protobuf', Array.from({ length: 256 }, (_, i) => i)),
        sent('text', 'the end'),
      ];
      assert.deepEqual(member, all);
      assert.deepEqual(sender, all.filter(({ data }) => data !== 'to the other one'));
    });

    test(`the SDK in ${place} is told Forbidden until a backend grants, and when it has revoked`, async (t) => {
      const group = `granted-${place}`;
      const { url: mayNothing } = await backends[0].call('AccessService.IssueClientToken', { user: `granted-${place}` });
      const change = (method) => async (connectionId) => {
        const through = backends[1 + calls++ % 2];
        let repeated = -1;
        const { matched, changed } = await everywhere(() => {
          repeated++;
          return through.call(`AccessService.${method}`, {
            target: { connections: [connectionId] },
            permissions: ['JOIN_LEAVE', 'SEND_TO'].map((what) => ({ action: `PERMISSION_ACTION_${what}_GROUP`, group })),
          });
        });
        assert.equal(matched, 1);
        // If a hub does not answer in time, the connection is changed when the call is repeated.
        assert.ok(changed === 1 || (changed === 0 && repeated > 0), `${changed} changed, repeated ${repeated} times`);
      };
      const { before, granted, revoked, messages } = await run(t, 'permittedMeanwhile', mayNothing, group, {
        grant: change('GrantPermissions'), revoke: change('RevokePermissions'),
      });
      assert.deepEqual({ before, granted, revoked }, {
        before: ['Forbidden', 'Forbidden'], granted: ['done', 'done'], revoked: ['Forbidden', 'Forbidden'],
      });
      assert.deepEqual(messages, [{ from: 'group', group, sender: `granted-${place}`, dataType: 'text', data: 'hello' }]);
    });

    test(`the SDK in ${place} loses nothing through ${cuts} cuts of its connection`, async (t) => {
      const network = await relay(hubs[0].clients);
      t.after(() => network.close());
      const group = `stream-${place}`;
      let sent = 0;
      let stream;
      let fail;
      const broken = new Promise((_, reject) => { fail = reject; });
      const stopping = { now: false };
      t.after(() => { stopping.now = true; });
      const scenario = run(t, 'cutOff', url(network.address, `cut-${place}`), group, cuts, {
        begin: () => {
          stream = new Promise((resolve, reject) => {
            let busy = false;
            const timer = setInterval(async () => {
              if (busy) return;
              busy = true;
              try {
                const { matched } = await backend('send', { groups: [group] }, { text: `${sent}` });
                assert.equal(matched, 1, `message ${sent}`);
                sent++;
              } catch (err) {
                clearInterval(timer);
                reject(err);
              }
              busy = false;
              if (stopping.now) {
                clearInterval(timer);
                resolve();
              }
            }, 4);
          });
          stream.catch(fail);
        },
        cut: (i) => network.cut(i % 2 ? 'rst' : 'fin'),
        end: async () => {
          stopping.now = true;
          await stream;
          return sent;
        },
      });
      const result = await Promise.race([scenario, broken]); // without the stream the scenario waits in vain
      assert.equal(result.wrong, -1, `out of place, doubled or lost: ${JSON.stringify(result)}`);
      assert.equal(result.received, result.count);
      assert.equal(result.connected.length, 1, 'one connection all the time');
      assert.equal(result.disconnected, 1, 'by stop() alone');
      assert.ok(network.opened > cuts, `${network.opened} sockets`);
      t.diagnostic(`${result.count} messages, ${network.opened} sockets`);
    });
  }

  test('frames of a plain page go to its group, at every hub, and come back with their opcode', async (t) => {
    const context = await newContext(browser);
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(app.url);
    const toGroup = 'webpubsub_mode=sendToGroup&group=frames';
    await connect(page, 'sender', `${url(hubs[0].clients, 'frames-sender')}&${toGroup}`);
    await connect(page, 'member', `${url(hubs[1].clients, 'frames-member')}&group=frames`);
    await connect(page, 'pubsub', `${url(hubs[2].clients, 'frames-pubsub')}&group=frames`, ['json.webpubsub.azure.v1']);
    const tokenURL = async (roles) => {
      const { url } = await backends[0].call('AccessService.IssueClientToken', { user: 'frames-token', groups: [], roles });
      return `${url}&${toGroup}`;
    };
    await connect(page, 'allowed', await tokenURL(['webpubsub.sendToGroup.frames']));
    await connect(page, 'forbidden', await tokenURL(['webpubsub.joinLeaveGroup', 'webpubsub.sendToGroup.other']));

    const send = (name, data) => page.evaluate(([name, data]) => {
      window.clients[name].socket.send(typeof data === 'string' ? data : Uint8Array.from(data));
    }, [name, data]);
    await send('forbidden', 'may not');
    assert.deepEqual(await closed(page, 'forbidden'), { code: 1008, reason: 'you may not send to this group', wasClean: true });
    for (const data of ['text ä', [0, 1, 254, 255], '{"type":"ping"}']) await send('sender', data);
    const frames = [{ text: 'text ä' }, { bytes: [0, 1, 254, 255] }, { text: '{"type":"ping"}' }];
    assert.deepEqual(await messages(page, 'sender', 3), frames, 'in dev it is in the group that it names');
    await send('allowed', 'may'); // with a token it is not
    assert.deepEqual(await messages(page, 'member', 4), [...frames, { text: 'may' }]);
    const from = (sender, dataType, data) => ({ type: 'message', from: 'group', group: 'frames', fromUserId: sender, dataType, data });
    assert.deepEqual((await messages(page, 'pubsub', 5)).slice(1).map(({ text }) => JSON.parse(text)), [
      from('frames-sender', 'text', 'text ä'),
      from('frames-sender', 'binary', 'AAH+/w=='),
      from('frames-sender', 'text', '{"type":"ping"}'),
      from('frames-token', 'text', 'may'),
    ]);
    await backends[2].send({ users: ['frames-token'] }, { text: 'the end' });
    assert.deepEqual(await messages(page, 'allowed', 1), [{ text: 'the end' }]);
  });

  test('tokens of the server SDK let clients in, with their roles', async (t) => {
    const key = randomBytes(48).toString('base64');
    const files = { key: join(data.path, 'token.key'), secrets: join(data.path, 'backend.secrets') };
    await writeFile(files.key, key, { mode: 0o600 });
    await writeFile(files.secrets, `${'s'.repeat(40)}\n`, { mode: 0o600 });
    const address = `127.0.0.1:${await freePort()}`;
    const hub = await startHub(
      'serve', '--single-hub', `--listen-clients=${address}`, '--listen-control=127.0.0.1:0', '--listen-ops=127.0.0.1:0',
      `--public-url=http://${address}`, `--token-key-file=${files.key}`, `--backend-secret-file=${files.secrets}`,
    );
    t.after(() => hub.stop());
    const service = new WebPubSubServiceClient(`Endpoint=http://${address};AccessKey=${key};Version=1.0;`, 'chat', { allowInsecureConnection: true });
    const { url } = await service.getClientAccessToken({
      userId: 'ann', roles: ['webpubsub.joinLeaveGroup.blue', 'webpubsub.sendToGroups.b*', 'webpubsub.sendToGroup.start'], groups: ['start'],
    });
    assert.deepEqual(await scenarios.permitted(url, [
      ['joinGroup', 'blue'], ['joinGroup', 'red'], ['sendToGroup', 'black', 'x', 'text'], ['sendToGroup', 'red', 'x', 'text'],
      ['sendToGroup', 'start', 'to itself', 'text'],
    ], 1), { results: ['done', 'Forbidden', 'done', 'Forbidden', 'done'], userId: 'ann', messages: [['start', 'to itself']] });
    await assert.rejects(scenarios.permitted(url.replace('hubs/chat', 'hubs/other'), []), { message: 'Unexpected server response: 401' });

    // The rest of that SDK calls an API that is not served. No answer of the hub may read as "no".
    const calls = {
      userExists: () => service.userExists('ann'),
      connectionExists: () => service.connectionExists('c'),
      groupExists: () => service.groupExists('blue'),
      hasPermission: () => service.hasPermission('c', 'sendToGroup', { targetName: 'blue' }),
      sendToAll: () => service.sendToAll('hello', { contentType: 'text/plain' }),
      closeConnection: () => service.closeConnection('c'),
      addUser: () => service.group('blue').addUser('ann'),
    };
    for (const [name, call] of Object.entries(calls)) {
      await assert.rejects(call(), (err) => err.statusCode === 501, name);
    }
    await assert.rejects(service.sendToAll('hello', { contentType: 'text/plain' }), /over gRPC/);
  });
});
