// Package events brings what happens to clients to backends (connhub.events.v1): connections that begin and end, and what
// clients send for the backends. For now it is best effort: who subscribes gets what happens from then on at this hub.
//
// # Life of an event
//
// The hub applies an op of a connection and tells its observers; the [Broker] is among them. If the op is an event, and somebody has subscribed
// to it, it is queued for each of those (queue.go); the subscriber's stream takes it from there (subscriber.go), and makes
// it a message of the API (event.go).
//
// # Goroutines
//
// A stream has gRPC's handler, which waits for its end, and two more: one writes, one reads. A write to a subscriber that
// does not read can only be ended by the end of its stream, so the handler must not be the one that waits in it. Both end when the
// stream does, which may be a moment after the handler has returned.
//
// # Locking
//
// Applied runs under the lock of a connection. It reads the list of subscribers without a lock, and takes subscriber.mu of
// each, one after the other: leaves, under which only the caller's Account is called. Broker.mu is for changes of that list; subscriber.mu is taken
// under it.
//
// # Backpressure
//
// What waits for a subscriber is bounded (Limits), and counts in what its caller may hold in memory
// (room.go). The number of subscribers is bounded, too. A subscriber that is slow costs
// itself messages, with a gap in their place, and then its stream; nobody else notices.
//
// # Errors
//
// Those that end a stream name their reason in the API (errors.go); the server turns them into statuses.
package events
