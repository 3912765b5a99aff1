// Backends that send numbered messages to a client, and the judge of what it got.

import assert from 'node:assert/strict';
import { once, EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

/**
 * How many messages of callers may be on their way to the client. A client that is away for long,
 * on a busy machine, must not overflow its outbox (1,000 messages).
 */
const mostUnread = 600;

const pace = 2; // ms between two messages of a caller, so that other processes have cores as well

/**
 * Starts a caller at each backend. Each sends to the client's id, user and group in turn, one
 * message after the other. Its series ends with "end".
 *
 * `read(n)` tells the callers that the client has n of their messages. `end` ends them, and
 * resolves to the names of their series. `lost` rejects when a caller can't go on. `sent` has the
 * number of messages of each series, and `unknown` the texts whose outcome a hub did not tell.
 */
export function startCallers(backends, { id, user, group }) {
  const targets = [{ groups: [group] }, { users: [user] }, { connections: [id] }];
  const room = new EventEmitter();
  room.setMaxListeners(backends.length);
  const sent = {};
  const unknown = new Set();
  const counts = { inTransfer: 0 }; // of all receipts
  let total = 0;
  let read = 0;
  let stopping = false;

  const send = async (backend, text, target) => {
    const { receipt } = await backend.call('DeliveryService.Send', { target, message: { text } });
    counts.inTransfer += receipt.in_transfer;
    const { matched, dropped, unreachable_hubs: unreachable } = receipt;
    if (unreachable.length > 0) {
      unknown.add(text);
      return false;
    }
    assert.deepEqual({ matched, dropped }, { matched: 1, dropped: [] }, text);
    return true;
  };
  const call = async (backend, name) => {
    for (sent[name] = 0; !stopping;) {
      if (total - read >= mostUnread) {
        await once(room, 'more');
        continue;
      }
      total++;
      await send(backend, `${name}:${++sent[name]}`, targets[sent[name] % targets.length]);
      await pause(pace);
    }
    while (!await send(backend, `${name}:end`, targets[2])) await pause(pace);
    return name;
  };

  const all = Promise.all(backends.map((backend, i) => call(backend, `caller${i}`)));
  all.catch(() => {}); // lost and end tell
  return {
    sent,
    unknown,
    counts,
    lost: new Promise((_, reject) => { all.catch(reject); }),
    read(n) {
      read = n;
      room.emit('more');
    },
    end() {
      stopping = true;
      room.emit('more');
      return all;
    },
  };
}

/**
 * Judges the texts (SERIES:NUMBER) that a client got, in their order. `sent` has the count of each
 * series. Returns the texts that are lost, doubled, and out of order within their series. A text of
 * `excused` may be lost.
 */
export function judge(texts, sent, excused = new Set()) {
  const last = Object.fromEntries(Object.keys(sent).map((series) => [series, 0]));
  const seen = new Set();
  const doubled = [];
  const disordered = [];
  for (const text of texts) {
    const [series, number] = text.split(':');
    if (!(series in sent) || number === 'end') continue;
    if (seen.has(text)) doubled.push(text);
    else if (Number(number) < last[series]) disordered.push(text);
    seen.add(text);
    last[series] = Math.max(last[series], Number(number));
  }
  const lost = Object.entries(sent).flatMap(([series, count]) => Array.from({ length: count }, (_, i) => `${series}:${i + 1}`)
    .filter((text) => !seen.has(text) && !excused.has(text)));
  return { lost, doubled, disordered };
}
