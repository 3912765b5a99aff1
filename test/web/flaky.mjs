// A TCP relay whose connections can be cut, as a network does it.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/**
 * Relays to HOST:PORT; `address` is where clients connect. `cut(how)` ends every connection at once, on both sides: with 'rst' the
 * sockets are reset, with 'fin' they end without a WebSocket close. It returns how many there were. `opened` counts connections.
 */
export async function relay(target) {
  const [host, port] = target.split(':');
  const pairs = new Set();
  const state = { opened: 0 };
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
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${server.address().port}`,
    get opened() { return state.opened; },
    cut(how) {
      const all = [...pairs];
      for (const pair of all) {
        pairs.delete(pair);
        for (const socket of pair) {
          if (how === 'rst') socket.resetAndDestroy();
          else socket.destroySoon();
        }
      }
      return all.length;
    },
    close() {
      server.close();
      pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
    },
  };
}
