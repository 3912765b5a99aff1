// A TCP relay whose connections can be cut, as a network does it.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { awaited } from './hub.mjs';

/**
 * Relays to HOST:PORT. Clients connect to `address`. `cut(how)` waits until the hub has sent bytes
 * on a connection, then it ends every connection at once, on both sides: with 'rst' the sockets are
 * reset, with 'fin' they end without a WebSocket close. `opened` counts connections.
 */
export async function relay(target) {
  const [host, port] = target.split(':');
  const pairs = new Set();
  const state = { opened: 0 };
  let alive = () => {}; // called when the hub has said something on a new connection
  const server = createServer((client) => {
    state.opened++;
    const hub = connect({ host, port: Number(port) });
    const pair = [client, hub];
    pairs.add(pair);
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('error', () => {}); // it was cut
      socket.on('close', () => {
        pairs.delete(pair);
        pair.forEach((other) => other.destroy());
      });
    }
    client.pipe(hub);
    hub.pipe(client);
    hub.once('data', () => {
      pair.alive = true;
      alive();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${server.address().port}`,
    get opened() { return state.opened; },
    async cut(how) {
      if (![...pairs].some((pair) => pair.alive)) {
        await awaited('a connection to cut', new Promise((resolve) => { alive = resolve; }));
      }
      endPairs(pairs, how);
    },
    close() {
      server.close();
      pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
    },
  };
}

/** Ends pairs of sockets, and empties their set: 'rst' resets the sockets, 'fin' ends them. */
export function endPairs(pairs, how) {
  for (const pair of [...pairs]) {
    pairs.delete(pair);
    for (const socket of pair) {
      if (how === 'rst') socket.resetAndDestroy();
      else socket.destroySoon();
    }
  }
}
