// A rolling restart of three hubs behind a proxy: Microsoft's client does not notice.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { dial } from './backend.mjs';
import { launch, serveApplication } from './browser.mjs';
import { judge, startCallers } from './callers.mjs';
import { anyPorts, freePort, scratch, startHub } from './hub.mjs';
import { places } from './places.mjs';
import { noticed, proxies } from './proxies.mjs';
import { listen } from './scenarios.mjs';

const delay = noticed + 1000; // ms: --drain-delay, as docs/deploys.md has it
const period = 60_000; // ms: --drain-period. Moves take as long as they need.

const listeners = 6; // further clients of the same kind
const nothingWrong = { lost: [], doubled: [], disordered: [] };

describe('a rolling restart', () => {
  let app, browser, data, etcd, hubs;
  const backends = [];
  const addresses = [];

  const startOne = (i) => startHub(
    'serve', '--insecure-dev', `--etcd-endpoints=${etcd.address}`, `--name=hub${i}`,
    `--listen-clients=${addresses[i].clients}`, `--listen-control=${addresses[i].control}`, `--listen-ops=${addresses[i].ops}`,
    `--drain-delay=${delay}ms`, `--drain-period=${period}ms`,
  );

  before(async () => {
    data = await scratch();
    // A hub of another cluster brings the etcd.
    const address = `127.0.0.1:${await freePort()}`;
    etcd = await startHub('dev', ...anyPorts.filter((flag) => !flag.includes('etcd')), `--etcd-listen=${address}`, `--data-dir=${data.path}`);
    etcd.address = address;
    for (let i = 0; i < 3; i++) {
      const port = async () => `127.0.0.1:${await freePort()}`;
      addresses.push({ clients: await port(), control: await port(), ops: await port() });
    }
    hubs = await Promise.all(addresses.map((_, i) => startOne(i)));
    backends.push(...hubs.map(({ control }) => dial(control)));
    app = await serveApplication();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    app?.close();
    backends.forEach((backend) => backend.close());
    for (const hub of hubs ?? []) await hub.stop(delay + period);
    await etcd?.stop();
    await data?.remove();
  });

  const url = (address, user) => `ws://${address}/client/hubs/default?user=${user}`;

  for (const [proxy, startProxy] of Object.entries(proxies)) {
    for (const [place, run] of Object.entries(places(() => ({ app, browser })))) {
      if (place !== 'Node' && !process.env.CONNHUB_TEST_LONG) continue;
      test(`behind ${proxy}: the SDK in ${place} keeps its connection and misses nothing`, async (t) => {
        const folder = join(data.path, `${proxy}-${place}`);
        await mkdir(folder);
        const front = await startProxy(folder, addresses);
        t.after(() => front.stop());
        for (const i of hubs.keys()) await front.sees(i);
        const name = `${proxy}-${place}`;
        const [group, talk] = [`${name}-group`, `${name}-talk`];
        const all = [];
        for (let i = 0; i < listeners; i++) all.push(await listen(url(front.address, `${name}-listener${i}`), talk));
        const moved = [];
        let left = 0; // publishes that hubs left out for a slow peer
        let callers;
        let fail;
        const broken = new Promise((_, reject) => { fail = reject; });
        const scenario = run(t, 'comeBack', url(front.address, name), { group, talk, drops: hubs.length }, {
          begin: (id) => {
            callers = startCallers(backends, { id, user: name, group });
            t.after(() => callers.end());
            callers.lost.catch(fail);
          },
          read: (n) => callers.read(n),
          drop: async (i) => {
            left += await hubs[i].metric('connhub_client_publishes_lost_total');
            await hubs[i].stop(delay + period);
            const [drained] = hubs[i].records('drained');
            assert.deepEqual([drained.closed, drained.left_open], [0, 0], JSON.stringify(drained));
            moved.push(drained.moved);
            hubs[i] = await startOne(i);
            backends[i].close();
            backends[i] = dial(hubs[i].control);
            await front.sees(i);
          },
          end: () => callers.end(),
          heard: (series, n) => all.every((one) => one.has(series, n)),
        });
        const result = await Promise.race([scenario, broken]); // without callers it waits in vain
        const connections = all.map((one) => one.connections());
        await Promise.all(all.map((one) => one.stop()));
        for (const hub of hubs) left += await hub.metric('connhub_client_publishes_lost_total');

        const published = Object.fromEntries(result.published.map((n, s) => [`publisher${s}`, n]));
        t.diagnostic(JSON.stringify({
          moved, got: result.texts.length, sent: callers.sent, published, repeated: result.repeated,
          inTransfer: callers.late.size, unknown: callers.unknown.size, left,
          missing: [...callers.unknown].filter((text) => !result.texts.includes(text)), unheard: all.map((one) => judge(one.texts(), published).lost.length),
        }));
        assert.equal(result.connected.length, 1, 'one connection all the time');
        assert.equal(result.disconnected, 1, 'by stop() alone');
        assert.deepEqual(connections, all.map(() => 1));
        assert.deepEqual(judge(result.texts, { ...callers.sent, ...published }, callers.unknown, callers.late), nothingWrong);
        for (const one of all) {
          const { lost, ...heard } = judge(one.texts(), published);
          assert.deepEqual(heard, { doubled: [], disordered: [] });
          assert.ok(lost.length <= left, `lost, and not counted as left out for a slow peer: ${lost}`);
        }
        // Each client was at a hub that was restarted.
        assert.ok(moved.reduce((a, b) => a + b) >= 1 + listeners, `moved: ${moved}`);
      });
    }
  }
});
