// A hub as a process of its own, the binary that users run.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const binary = process.env.CONNHUB_BIN ?? fileURLToPath(new URL('../../bin/connhub', import.meta.url));

const startLimit = 15_000; // ms from the start to "ready", on a busy machine
const stopLimit = 10_000; // ms from SIGTERM to the exit: what the hub promises

/** Makes a folder that is gone when the suite is over; the caller registers `remove`. */
export async function scratch() {
  const path = await mkdtemp(join(tmpdir(), 'connhub-web-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/**
 * Starts `connhub COMMAND ARGS` on loopback ports that are free, and resolves when it is ready.
 * `clients`, `control` and `ops` are its addresses (host:port).
 */
export async function startHub(command, ...args) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CONNHUB_')));
  const child = spawn(binary, [command, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const log = [];
  const exited = once(child, 'exit');
  const ready = new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`connhub ${command}: ${why}\n${log.join('\n')}`));
    const limit = setTimeout(() => fail('not ready in time'), startLimit);
    child.once('error', (err) => fail(err.message));
    child.once('exit', (code, signal) => fail(`exit ${code ?? signal}`));
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const record = parse(line);
      if (record?.msg === 'ready') {
        clearTimeout(limit);
        resolve(record);
      }
    });
  });

  const { clients, control, ops } = await ready.catch((err) => {
    child.kill('SIGKILL');
    throw err;
  });
  return {
    clients,
    control,
    ops,
    log,
    /** The sum of a metric over all its labels. */
    async metric(name) {
      const response = await fetch(`http://${ops}/metrics`);
      const samples = (await response.text()).split('\n').filter((line) => line.startsWith(name) && ' {'.includes(line[name.length]));
      return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    },
    /** Asks the hub to stop; resolves to its exit code. */
    async stop() {
      const limit = setTimeout(() => child.kill('SIGKILL'), stopLimit);
      child.kill('SIGTERM');
      const [code, signal] = await exited;
      clearTimeout(limit);
      if (code !== 0) throw new Error(`connhub ${command}: exit ${code ?? signal}\n${log.join('\n')}`);
    },
  };
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null; // not a record of the log
  }
}

/** Flags that put every port of a hub on a free loopback port. */
export const anyPorts = [
  '--listen-clients=127.0.0.1:0',
  '--listen-control=127.0.0.1:0',
  '--listen-ops=127.0.0.1:0',
  '--etcd-listen=127.0.0.1:0',
];

/** A loopback port that nobody listens on now. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
