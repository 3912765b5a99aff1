// nginx and haproxy in front of the client ports of hubs. docs/deploys.md has their settings.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort, patience } from './hub.mjs';

/**
 * nginx has no checks: it tries another hub when a hub refuses a connection. With its default,
 * max_fails=1, it uses no hub at all for 10 s once each hub has refused a connection.
 */
const nginx = (path, address, hubs) => `
  ${process.getuid?.() === 0 ? 'user root;' : ''}
  daemon off;
  worker_processes 1;
  pid ${path}/nginx.pid;
  error_log stderr warn;
  events { worker_connections 256; }
  http {
    access_log off;
    ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${path}/${what};`).join(' ')}
    map $http_upgrade $connection_upgrade {
      default upgrade;
      ''      close;
    }
    upstream clients {
      ${hubs.map(({ clients }) => `server ${clients} max_fails=0;`).join(' ')}
    }
    server {
      listen ${address};
      location / {
        proxy_pass http://clients;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $http_host;
        proxy_read_timeout 60s;
        proxy_send_timeout 60s;
      }
    }
  }
`;

/** How long haproxy takes to see that a hub is not ready, in ms: the interval × the failures. */
export const noticed = 500 * 2;

const haproxy = (path, address, hubs) => `
global
  stats socket ${path}/haproxy.sock

defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s

frontend clients
  bind ${address}
  default_backend hubs_clients

backend hubs_clients
  balance leastconn
  timeout tunnel 60s
  option redispatch
  option httpchk GET /readyz
  default-server check inter 500ms fall 2 rise 1
${hubs.map(({ clients, ops }, i) => `  server hub${i} ${clients} port ${ops.split(':')[1]}`).join('\n')}
`;

/**
 * The proxies by name. Each starts with a folder of its own and the addresses of hubs. `address` is
 * where clients connect. `sees(i)` resolves when the proxy brings clients to a hub that is ready.
 */
export const proxies = {
  nginx: async (path, hubs) => ({
    ...await start(path, nginx, hubs, (file) => ['nginx', '-p', path, '-c', file, '-e', 'stderr']),
    sees: async () => {},
  }),
  haproxy: async (path, hubs) => ({
    ...await start(path, haproxy, hubs, (file) => ['haproxy', '-db', '-f', file]),
    async sees(i) {
      for (const limit = Date.now() + patience; await statusOf(path, `hub${i}`) !== 'UP'; await pause(50)) {
        if (Date.now() > limit) throw new Error(`haproxy does not see hub${i}`);
      }
    },
  }),
};

/** The state of a server, as the statistics of haproxy have it. */
async function statusOf(path, name) {
  const socket = connect(join(path, 'haproxy.sock'));
  socket.end('show stat\n');
  const [head, ...rows] = `${Buffer.concat(await socket.toArray())}`.trim().split('\n').map((line) => line.split(','));
  const row = rows.find(([, server]) => server === name);
  return row[head.indexOf('status')];
}

async function start(path, configuration, hubs, command) {
  const address = `127.0.0.1:${await freePort()}`;
  const file = join(path, 'proxy.conf');
  await writeFile(file, configuration(path, address, hubs));
  const [program, ...args] = command(file);
  const child = spawn(program, args, { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }, stdio: ['ignore', 'ignore', 'pipe'] });
  const log = [];
  child.stderr.on('data', (bytes) => log.push(bytes));
  const exited = once(child, 'exit'); // rejects when there is no such program
  let over = false;
  exited.then(() => { over = true; }, () => { over = true; });
  const text = () => `${Buffer.concat(log)}`;
  for (const limit = Date.now() + patience; !await accepts(address); await pause(20)) {
    if (over) {
      await exited;
      throw new Error(`${program} has ended: ${text()}`);
    }
    if (Date.now() > limit) throw new Error(`${program} does not listen: ${text()}`);
  }
  return {
    address,
    log: text,
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Whether a connection to HOST:PORT is accepted. */
async function accepts(address) {
  const [host, port] = address.split(':');
  const socket = connect({ host, port: Number(port) });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
