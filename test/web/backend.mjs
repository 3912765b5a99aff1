// A backend in another language: it has nothing of connhub but the proto files.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import protobuf from 'protobufjs';
import { awaited, patience } from './hub.mjs';

const api = (path) => fileURLToPath(new URL(`../../api/${path}`, import.meta.url));

const files = ['access', 'connection', 'delivery', 'group', 'hub'].map((name) => `connhub/control/v1/${name}.proto`);
const definition = protoLoader.loadSync([...files, 'connhub/events/v1/subscription.proto'], {
  includeDirs: [api('proto'), api('third_party')],
  defaults: true,
  enums: String,
  keepCase: true,
  longs: Number,
  oneofs: true,
});
const { control: { v1 }, events: { v1: { EventService } } } = grpc.loadPackageDefinition(definition).connhub;

/** Every method by which backends act, as "Service.Method". */
export const methods = Object.entries(v1)
  .filter(([, type]) => type.service)
  .flatMap(([service, type]) => Object.keys(type.service).map((method) => `${service}.${method}`));

// The details that an error carries (google.rpc.Status, ErrorInfo, BadRequest).
const rpc = protobuf.loadSync(['status', 'error_details'].map((name) => api(`third_party/google/rpc/${name}.proto`)));
const Status = rpc.lookupType('google.rpc.Status');

/** An error that a hub answered with. */
export class CallError extends Error {
  constructor(method, err) {
    super(`${method}: ${err.message}`);
    this.code = grpc.status[err.code];
    const [encoded] = err.metadata.get('grpc-status-details-bin');
    const details = encoded ? Status.decode(encoded).details : [];
    for (const { type_url: url, value } of details) {
      const name = url.slice(url.lastIndexOf('/') + 1);
      if (name === 'google.rpc.ErrorInfo') {
        const info = rpc.lookupType(name).decode(value);
        this.reason = info.reason;
        this.domain = info.domain;
      } else if (name === 'google.rpc.BadRequest') {
        this.violations = rpc.lookupType(name).decode(value).fieldViolations;
        this.fields = this.violations.map(({ field }) => field);
      }
    }
  }
}

/** Opens a backend's channel to the control address of a hub. */
export function dial(address, secret) {
  const credentials = grpc.credentials.createInsecure();
  const clients = Object.fromEntries(
    Object.entries(v1)
      .filter(([, type]) => type.service)
      .map(([service, Client]) => [service, new Client(address, credentials)]),
  );
  const called = new Set();
  const authorized = () => {
    const metadata = new grpc.Metadata();
    if (secret) metadata.set('authorization', `Bearer ${secret}`);
    return metadata;
  };

  /** Calls a method of HubService that streams its progress; answers with the reports. */
  async function reportsOf(method, request) {
    const name = `HubService.${method}`;
    const metadata = authorized();
    const reports = [];
    try {
      for await (const report of clients.HubService[method](request, metadata, { deadline: Date.now() + patience })) {
        reports.push(report);
      }
    } catch (err) {
      throw new CallError(name, err);
    }
    called.add(name);
    return reports;
  }

  return {
    /** The methods that have answered without an error. */
    called,
    close: () => Object.values(clients).forEach((client) => client.close()),
    /** Calls "Service.Method"; rejects with a CallError. */
    call(name, request = {}) {
      const [service, method] = name.split('.');
      const metadata = authorized();
      return new Promise((resolve, reject) => {
        clients[service][method](request, metadata, { deadline: Date.now() + patience }, (err, response) => {
          if (err) return reject(new CallError(name, err));
          called.add(name);
          resolve(response);
        });
      });
    },
    /** Sends on one SendStream, in one batch, and answers with the results as they come. */
    async stream(sends) {
      const name = 'DeliveryService.SendStream';
      const metadata = authorized();
      const stream = clients.DeliveryService.SendStream(metadata, { deadline: Date.now() + patience });
      stream.write({ sends: sends.map((send, i) => ({ sequence: i + 1, send })) });
      stream.end();
      const all = [];
      try {
        for await (const { results } of stream) all.push(...results);
      } catch (err) {
        throw new CallError(name, err);
      }
      called.add(name);
      return all;
    },
    /** Drains a hub; answers with the reports of its progress when it is drained. */
    drain: (hub) => reportsOf('DrainHub', { hub_id: hub }),
    /** Rebalances the hubs; answers with the reports of its progress when that is over. */
    rebalance: () => reportsOf('RebalanceHubs', {}),
    /**
     * Subscribes to clients' events; resolves when the subscription is in force. `events` has the
     * events that came; `end` ends it.
     */
    async subscribe(subscription) {
      const service = new EventService(address, credentials);
      const metadata = authorized();
      const stream = service.Subscribe(metadata);
      const events = [];
      stream.on('data', (response) => events.push(...response.events));
      const lost = new Promise((_, reject) => {
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('the subscription has ended')));
      });
      lost.catch(() => {}); // until tells
      stream.write({ subscription });
      await awaited('the subscription is in force', once(stream, 'data'), lost);
      return {
        events,
        /** Resolves when there are n events. */
        async until(n) {
          while (events.length < n) await awaited(`event ${events.length + 1} of ${n}`, once(stream, 'data'), lost);
        },
        end() {
          stream.cancel();
          service.close();
        },
      };
    },
    /** Sends until every hub has answered, and answers with the last receipt. */
    async send(target, message, more = {}) {
      const request = {
        target, message, wait: 'WAIT_WRITTEN', wait_timeout: { seconds: patience / 1000 },
        request_id: randomUUID(), ...more,
      };
      const { receipt } = await everywhere(() => this.call('DeliveryService.Send', request), ({ receipt }) => receipt);
      return receipt;
    },
    /** The ids of a user's connections. */
    async connectionsOf(user) {
      const { connections } = await this.call('ConnectionService.ListConnections', { target: { users: [user] } });
      return connections.map(({ id }) => id);
    },
  };
}

/**
 * Repeats a call until every hub has a part in the answer: to the called hub a peer seems
 * silent now and then on a busy machine. `part` returns the part that names the silent hubs.
 */
export async function everywhere(call, part = (answer) => answer) {
  for (const limit = Date.now() + patience; ;) {
    const answer = await call();
    const { unreachable_hubs: unreachable } = part(answer);
    if (unreachable.length === 0) return answer;
    if (Date.now() > limit) throw new Error(`no answer of ${unreachable} in ${patience} ms: ${JSON.stringify(answer)}`);
    await pause(20);
  }
}

/** These fields are in an answer that every hub has a part in. */
export const reached = { unreachable_hubs: [], discovery_stale_for: null };

/** The counts of a receipt by state, after checking that they add up. */
export function counts(receipt) {
  const { matched, pending, queued, queued_detached: detached, written, acked } = receipt;
  const moving = receipt.in_transfer;
  const dropped = receipt.dropped.reduce((sum, { count }) => sum + count, 0);
  if (matched !== pending + queued + detached + written + acked + moving + dropped) {
    throw new Error(`states do not add up: ${JSON.stringify(receipt)}`);
  }
  return { matched, written, dropped };
}
