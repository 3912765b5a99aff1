// Package hub is the core of connhub: connections, groups, outboxes, delivery. It knows no network, no gRPC
// and no etcd; what carries bytes comes in as a Link, how messages look as a Protocol.
//
// # Life of a connection
//
// Hub.Attach registers it (connecting: sends find it and wait in its outbox), Connection.Bind gives it a link
// (attached), Connection.Unbind takes the link away: a protocol that numbers its messages then waits for the
// client (detached) and Hub.Resume finds the connection again, any other ends. Closed is final and has one
// cause.Cause. All that a connection is stands in its State, and every change of it is an Op that goes through
// State.apply.
//
// # Life of a message
//
// Hub.Deliver matches the Target, encodes once for each protocol and route, pushes the Envelope to each
// outbox, and has the links flush: Connection.Take gives them what may be written (a message gets its
// sequence id there), Connection.Written says that it was. The tally counts its fate at every step and the
// Receipt reads it.
//
// # What a client sends
//
// Its link has Connection.Turn while the Protocol takes a message, so two links of one client never do that together.
//
// # Goroutines
//
// The package owns none that outlive a call: timers (the resume window, a full tail) and, in a large fan-out,
// a few workers that Deliver waits for.
//
// # Locking
//
// In this order, each held for a few steps and never across a write or a call of a Link:
//
//	Link's own → Connection.mu → Hub.mu → a table bucket's
//
// A Link calls Take and Written under its own lock; the hub calls Link methods without any lock, but for holdings.reclaiming, which
// is only ever tried for. tally.mu and detached.mu are leaves.
//
// # Backpressure
//
// A slow client costs only itself: Push never blocks, the outbox is bounded in messages and bytes, and what
// does not fit is decided by the message's Policy. Unconfirmed messages fill a window that stops writing. Every
// drop has a cause.DropReason and goes through the tally.
//
// What all connections share has a bound, too, and fair shares in it: above the bound the largest user of the largest namespace pays, not the
// caller that finds the bound reached (internal/fairshare).
//
// # Errors
//
// The sentinels in errors.go; nothing is logged here.
package hub
