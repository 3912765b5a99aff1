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
 * A caller goes on at the next backend when its hub leaves. `backends` may be changed meanwhile.
 *
 * `read(n)` tells the callers that the client has n of their messages. `end` ends them, and
 * resolves to the names of their series. `lost` rejects when a caller can't go on. `sent` has the
 * number of messages of each series, `unknown` the texts whose outcome a hub did not tell, and
 * `late` those that had not reached the client's outbox when the hub answered: they keep their
 * order only among the messages that come through the same hub.
 */
export function startCallers(backends, { id, user, group }) {
  const targets = [{ groups: [group] }, { users: [user] }, { connections: [id] }];
  const room = new EventEmitter();
  room.setMaxListeners(backends.length);
  const sent = {};
  const [unknown, late] = [new Set(), new Set()];
  let total = 0;
  let read = 0;
  let stopping = false;

  const send = async (place, text, target) => {
    let receipt;
    try {
      ({ receipt } = await backends[place.at].call('DeliveryService.Send', { target, message: { text } }));
    } catch (err) {
      if (err.code !== 'UNAVAILABLE') throw err;
      place.at = (place.at + 1) % backends.length;
      if (err.reason === 'SHUTTING_DOWN') return send(place, text, target); // nothing was done
      unknown.add(text);
      return false;
    }
    if (receipt.in_transfer > 0) late.add(text);
    const { matched, dropped, unreachable_hubs: unreachable } = receipt;
    if (unreachable.length > 0) {
      unknown.add(text);
      return false;
    }
    assert.deepEqual({ matched, dropped }, { matched: 1, dropped: [] }, text);
    return true;
  };
  const call = async (name, at) => {
    const place = { at };
    for (sent[name] = 0; !stopping;) {
      if (total - read >= mostUnread) {
        await once(room, 'more');
        continue;
      }
      total++;
      await send(place, `${name}:${++sent[name]}`, targets[sent[name] % targets.length]);
      await pause(pace);
    }
    while (!await send(place, `${name}:end`, targets[2])) await pause(pace);
    return name;
  };

  const all = Promise.all(backends.map((_, i) => call(`caller${i}`, i)));
  all.catch(() => {}); // lost and end tell
  return {
    sent,
    unknown,
    late,
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
 * `unknown` may be lost or late, and a text of `late` may be late.
 */
export function judge(texts, sent, unknown = new Set(), late = new Set()) {
  const last = Object.fromEntries(Object.keys(sent).map((series) => [series, 0]));
  const seen = new Set();
  const doubled = [];
  const disordered = [];
  for (const text of texts) {
    const [series, number] = text.split(':');
    if (!(series in sent) || number === 'end') continue;
    if (seen.has(text)) doubled.push(text);
    else if (Number(number) < last[series] && !unknown.has(text) && !late.has(text)) disordered.push(text);
    seen.add(text);
    last[series] = Math.max(last[series], Number(number));
  }
  const lost = Object.entries(sent).flatMap(([series, count]) => Array.from({ length: count }, (_, i) => `${series}:${i + 1}`)
    .filter((text) => !seen.has(text) && !unknown.has(text)));
  return { lost, doubled, disordered };
}
