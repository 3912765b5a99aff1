// Microsoft's client behind a balancer: each time it loses its connection, it comes to any hub.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { dial } from './backend.mjs';
import { balance, dice } from './balancer.mjs';
import { launch, serveApplication } from './browser.mjs';
import { judge, startCallers } from './callers.mjs';
import { awaited, scratch, startCluster } from './hub.mjs';
import { places } from './places.mjs';
import { listen } from './scenarios.mjs';

const drops = process.env.CONNHUB_TEST_LONG ? 200 : 20;
const seed = Number(process.env.CONNHUB_TEST_SEED ?? Math.floor(Math.random() * 2 ** 32));

/** At each drop of this number the way back is gone twice at the same time. */
const doubledEvery = 5;

const nothingWrong = { lost: [], doubled: [], disordered: [] };

describe('a client that comes to any hub', () => {
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

  const url = (address, user) => `ws://${address}/client/hubs/default?user=${user}`;
  /** How often hubs have taken connections from others, and left publishes out. */
  const counters = async () => {
    const sum = async (metric) => (await Promise.all(hubs.map((hub) => hub.metric(metric)))).reduce((a, b) => a + b);
    return { takes: await sum('connhub_take_seconds_count'), left: await sum('connhub_client_publishes_lost_total') };
  };

  for (const [place, run] of Object.entries(places(() => ({ app, browser })))) {
    test(`the SDK in ${place} comes back ${drops} times, to any hub, and misses nothing`, async (t) => {
      t.diagnostic(`to repeat: CONNHUB_TEST_SEED=${seed}`);
      const network = await balance(hubs.map(({ clients }) => clients), dice(seed));
      t.after(() => network.close());
      const name = `back-${place}`;
      const [group, talk] = [`${name}-group`, `${name}-talk`];
      const listener = await listen(url(hubs[0].clients, `${name}-listener`), talk);
      const before = await counters();
      const pairs = {};
      let callers;
      let fail;
      const broken = new Promise((_, reject) => { fail = reject; });
      const scenario = run(t, 'comeBack', url(network.address, name), { group, talk, drops }, {
        begin: (id) => {
          callers = startCallers(backends, { id, user: name, group });
          t.after(() => callers.end());
          callers.lost.catch(fail);
        },
        read: (n) => callers.read(n),
        drop: async (i) => {
          await network.cut(i % 2 ? 'rst' : 'fin');
          if (i % doubledEvery !== doubledEvery - 1) return;
          const answers = `${await network.double()}`;
          pairs[answers] = (pairs[answers] ?? 0) + 1;
        },
        end: () => callers.end(),
        heard: (series, n) => listener.has(series, n),
      });
      const result = await Promise.race([scenario, broken]); // without callers it waits in vain
      await listener.stop();

      const after = await counters();
      const [takes, left] = [after.takes - before.takes, after.left - before.left];
      const published = Object.fromEntries(result.published.map((n, s) => [`publisher${s}`, n]));
      t.diagnostic(JSON.stringify({
        sent: callers.sent, published, repeated: result.repeated, takes, pairs, answers: tally(network.answers),
        inTransfer: callers.late.size, unknown: callers.unknown.size, left,
      }));
      assert.equal(result.connected.length, 1, 'one connection all the time');
      assert.equal(result.disconnected, 1, 'by stop() alone');
      assert.deepEqual(judge(result.texts, { ...callers.sent, ...published }, callers.unknown), nothingWrong);
      const { lost, ...heard } = judge(listener.texts(), published);
      assert.deepEqual(heard, { doubled: [], disordered: [] });
      assert.ok(lost.length <= left, `lost, and not counted as left out for a slow peer: ${lost}`);
      assert.ok(takes > 0, 'no connection moved');
      await awaited('the last comer has the connection: the hubs end its twins', network.twinsEnd());
    });
  }
});

test('the judge finds what is lost, doubled and out of order', () => {
  const got = ['a:1', 'b:2', 'a:3', 'a:2', 'b:1', 'b:2', 'a:end', 'c:1'];
  assert.deepEqual(judge(got, { a: 4, b: 3 }, new Set(['b:3'])), { lost: ['a:4'], doubled: ['b:2'], disordered: ['a:2', 'b:1'] });
});

/** The answers of each target, by status. */
function tally(answers) {
  const counts = {};
  for (const { at, code } of answers) counts[`hub${at} ${code}`] = (counts[`hub${at} ${code}`] ?? 0) + 1;
  return counts;
}
