// Package hub is the core of connhub: connections, groups, outboxes, delivery. It knows no network,
// no gRPC and no etcd. A Link carries the bytes, and a Protocol encodes messages.
//
// # Life of a connection
//
// Hub.Attach registers it (connecting: sends find it and wait in its outbox). Connection.Bind gives
// it a link (attached). Connection.Unbind takes the link away. If the protocol numbers its
// messages, the connection then waits for the client (detached), and Hub.Resume finds it again.
// Otherwise it ends. Closed is final and has one cause.Cause.
//
// All facts of a connection stand in its State. Every change of it is an Op that goes through
// State.applyOp.
//
// # Life of a message
//
// Hub.Deliver matches the Target, encodes once for each protocol and route, pushes the Envelope to
// each outbox, and has the links flush. Connection.Take gives a link the messages that it may
// write; a message gets its sequence id there. Connection.Written records that the link wrote them.
// The tally counts the message's fate at every step, and the Receipt reads it.
//
// # Messages of clients
//
// A link holds Connection.Turn while the Protocol handles a message. So two links of one client
// never do that together.
//
// # Goroutines
//
// The package owns none that outlive a call, but for timers (the resume window, a full tail). In a
// large fan-out Deliver starts a few workers, and waits for them.
//
// # Locking
//
// In this order, each held for a few steps and never across a write or a call of a Link:
//
//	Link's own → Connection.mu → Hub.mu → a table bucket's
//
// A Link calls Take and Written under its own lock. The hub calls Link methods without any lock,
// but for holdings.reclaiming, which is only ever tried for. tally.mu and detached.mu are leaves.
//
// # Backpressure
//
// A slow client costs only itself: a push never blocks, and the outbox is bounded in messages and
// bytes. If a message does not fit, its overflow policy decides. Unconfirmed messages fill a
// window; a full window stops writing. Every drop has a cause.DropReason and goes through the
// tally.
//
// The resources that all connections share are bounded, too, by fair shares. Above the bound the
// largest user of the largest namespace pays, not the caller that finds the bound reached
// (internal/fairshare).
//
// # Errors
//
// The sentinels are in errors.go. The package logs nothing.
package hub
