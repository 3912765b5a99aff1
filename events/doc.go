// Package events brings the events of clients to backends: connections that begin and end, and
// messages that clients send for the backends. A pure core decides which subscription gets which
// event; a shell around it has the locks and the clock; ways out in packages below this one bring
// the events to backends. Today there is a single way out, the stream of the API (events/stream).
//
// Delivery is best effort for now: a subscription gets the events of this hub that happen after it
// began, and an event that a way out could not give is lost.
//
// # Outline
//
// The core, without goroutine, clock, lock and I/O:
//
//	event.go         an event, or a gap in place of messages
//	filter.go        which events a subscription selects
//	core.go          a subscription: events come in, batches and effects (effect.go) come out
//	queue.go         the events that wait, bounded; which messages are dropped
//	shares.go        how much of a queue each user and namespace has
//	room.go          how much the events hold of the memory that the subscriber may use
//	roster.go        how many subscriptions there may be, and when none is left
//
// The shell:
//
//	broker.go        the Broker: ops of the hub come in, subscriptions get events
//	subscription.go  a core with its lock, and the interface to a way out
//
// There is a core for each subscription, not a single core for the hub. Subscriptions share nothing
// but immutable events, so each has a lock of its own, and a slow subscriber holds up no other.
//
// # Life of an event
//
// The hub applies an op of a connection and tells its observers; the Broker is among them. If the
// op is an event, the Broker offers it to each subscription that selects it. The core queues the
// event, or drops it with a gap in its place. The way out takes a batch, gives it to the backend,
// and releases it.
//
// # Room for later
//
// Delivery at least once needs these, and has its place for them:
//
//   - A lease and an attempt belong to a batch in flight: core.takeBatch grants, and
//     core.releaseBatch is where the ack comes in. A batch that is not acknowledged goes back to
//     the front of the queue there.
//   - Consumers that share a subscription are an argument of core.takeBatch. It assigns a
//     connection to the consumer that takes its first event, until that consumer has released all
//     of them.
//   - Deadlines: the calls of the core get the time, as Event.At comes in from the shell, and
//     effects get the time of the next call.
//   - Gaps with another reason are rows of GapReason.
//   - events/handler and events/webhook are ways out: a loop over Take and Release, as
//     events/stream has it.
//
// # Goroutines
//
// None: the core and the shell run in the goroutines of their callers.
//
// # Locking
//
// Applied and Emitted run under the lock of a connection. They read the list of subscriptions
// without a lock, and take Subscription.mu of each that selects the event, one after another. Under
// that lock only the subscriber's Account is called. Broker.mu guards changes of the list;
// Subscription.mu is taken under it.
//
// # Backpressure
//
// The events that wait in a subscription are bounded (Limits), and count in the memory that its
// subscriber may use (Account). The number of subscriptions is bounded too. A slow subscriber loses
// messages, with a gap in their place, and then its subscription. Nothing else notices.
//
// # Errors
//
// The errors of a subscription are sentinels (errors.go); a way out turns them into those of its
// protocol.
package events
