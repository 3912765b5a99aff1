// A hub as a process of its own, the binary that users run.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const binary = process.env.CONNHUB_BIN ?? fileURLToPath(new URL('../../bin/connhub', import.meta.url));

/**
 * How long a test waits for events that must come at no promised time, in ms. It is long enough for
 * a machine that is ten times busier.
 */
export const patience = 300_000;

/**
 * Waits for a promise that must resolve. Rejects at once when `lost`, a promise, rejects, and when
 * it has not resolved in time.
 */
export async function awaited(what, promise, lost = new Promise(() => {})) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not in ${patience} ms`)), patience);
  });
  try {
    return await Promise.race([promise, lost, late]);
  } finally {
    clearTimeout(timer);
  }
}

const stopLimit = 10_000; // ms from SIGTERM to the exit, as the hub promises
const handovers = 10; // as many times this process may be woken late while the hub stops

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
  // or each stop would wait for balancers
  const drain = command === 'serve' && !args.some((arg) => arg.startsWith('--drain-'))
    ? ['--drain-delay=0s', '--drain-period=0s'] : [];
  const child = spawn(binary, [command, ...drain, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const log = [];
  const exited = once(child, 'exit');
  const ready = new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`connhub ${command}: ${why}\n${log.join('\n')}`));
    const limit = setTimeout(() => fail('not ready in time'), patience);
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
    /** The records of the log with a message. */
    records: (msg) => log.map(parse).filter((record) => record?.msg === msg),
    /** The sum of a metric over all its labels. */
    async metric(name) {
      const response = await fetch(`http://${ops}/metrics`);
      const samples = (await response.text()).split('\n').filter((line) => line.startsWith(name) && ' {'.includes(line[name.length]));
      return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    },
    /**
     * Asks the hub to stop, and holds that it does within its limit, which is extended by the
     * pauses of this machine. A drain of `drain` ms may come first.
     */
    async stop(drain = 0) {
      const pauses = monitorEventLoopDelay({ resolution: 1 });
      pauses.enable();
      const began = performance.now();
      const last = setTimeout(() => child.kill('SIGKILL'), patience);
      child.kill('SIGTERM');
      const [code, signal] = await exited;
      clearTimeout(last);
      const took = performance.now() - began;
      const limit = drain + stopLimit + handovers * pauses.max / 1e6;
      pauses.disable();
      if (took > limit) throw new Error(`connhub ${command}: its end took ${took} ms, limit ${limit}\n${log.join('\n')}`);
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

/** Starts three hubs of one cluster. The first brings its etcd; the last must stop first. */
export async function startCluster(path) {
  const etcd = `127.0.0.1:${await freePort()}`;
  const start = (flag) => startHub('dev', ...anyPorts.filter((port) => !port.includes('etcd')), flag, `--data-dir=${path}`);
  return [await start(`--etcd-listen=${etcd}`), await start(`--join=${etcd}`), await start(`--join=${etcd}`)];
}

/** A loopback port without a listener. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
