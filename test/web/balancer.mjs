// A TCP balancer before hubs, whose connections can be cut, and whose clients can be doubled.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { endPairs } from './flaky.mjs';
import { awaited } from './hub.mjs';

/** A random number below n from a seed (mulberry32): the same seed brings the same numbers. */
export function dice(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return Math.floor(((z ^ (z >>> 14)) >>> 0) / 2 ** 32 * n);
  };
}

const headEnd = Buffer.from('\r\n\r\n');

/**
 * Listens at `address`, and brings each connection to one of the targets (HOST:PORT): the number
 * that `pick(n)` returns, below n.
 *
 * `cut(how)` waits until a hub has upgraded a connection, then it ends every connection at once, on
 * both sides: with 'rst' the sockets are reset, with 'fin' they end without a WebSocket close.
 *
 * After `double()` the next request comes to hubs twice at the same time: `pick` chooses the hub of
 * the client, the hub of its twin, and the request that is written first. The twin confirms
 * nothing, and answers no close. The promise of `double` resolves to the status of both answers.
 *
 * `answers` has the status of each answer for a client, and the target that gave it.
 */
export async function balance(targets, pick) {
  const pairs = new Set();
  const twins = new Set();
  const answers = [];
  let upgraded = () => {}; // called when a hub has upgraded a connection
  let doubled = null; // resolves the promise of double

  /** Opens a connection to a target. `status` resolves to the first status of its answer. */
  const dial = async (at) => {
    const [host, port] = targets[at].split(':');
    const hub = connect({ host, port: Number(port), noDelay: true });
    hub.on('error', () => {}); // it was cut
    const status = new Promise((resolve) => {
      hub.once('data', (bytes) => resolve(Number(`${bytes}`.split(' ', 2)[1])));
      hub.once('close', () => resolve(0));
    });
    await once(hub, 'connect');
    return { hub, at, status };
  };

  /** Joins a client and its hub. The client's request has been written. */
  const join = (client, { hub, at, status }) => {
    const pair = [client, hub];
    pairs.add(pair);
    for (const socket of pair) {
      socket.on('close', () => {
        pairs.delete(pair);
        pair.forEach((other) => other.destroy());
      });
    }
    status.then((code) => {
      answers.push({ at, code });
      if (code !== 101) return;
      pair.alive = true;
      upgraded();
    });
    client.pipe(hub);
    hub.pipe(client);
  };

  const serve = async (client) => {
    client.on('error', () => {}); // it was cut
    const resolve = doubled;
    doubled = null;
    const own = await dial(pick(targets.length));
    if (!resolve) return join(client, own);
    const twin = await dial(pick(targets.length));
    twins.add(twin);
    twin.hub.resume();
    const request = await readHead(client);
    for (const { hub } of pick(2) ? [own, twin] : [twin, own]) hub.write(request);
    join(client, own);
    return resolve(Promise.all([own.status, twin.status]));
  };

  const server = createServer({ noDelay: true }, (client) => {
    serve(client).catch(() => client.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${server.address().port}`,
    answers,
    double: () => new Promise((resolve) => { doubled = resolve; }),
    async cut(how) {
      if (![...pairs].some((pair) => pair.alive)) {
        await awaited('a connection to cut', new Promise((resolve) => { upgraded = resolve; }));
      }
      endPairs(pairs, how);
    },
    /** Resolves when the hubs have ended the sockets of all twins. */
    twinsEnd: () => Promise.all([...twins].map(({ hub }) => hub.closed || once(hub, 'close'))),
    close() {
      server.close();
      pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
      twins.forEach(({ hub }) => hub.destroy());
    },
  };
}

/** Reads a request to the end of its headers. */
async function readHead(socket) {
  let head = Buffer.alloc(0);
  while (!head.includes(headEnd)) {
    const [bytes] = await once(socket, 'data');
    head = Buffer.concat([head, bytes]);
  }
  socket.pause(); // until it is piped
  return head;
}
