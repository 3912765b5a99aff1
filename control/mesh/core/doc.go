// Package core decides all that the hubs of a cluster tell each other: the members, the interest of
// this hub that a peer must know, the hubs that a send must reach. It performs nothing. It has no
// goroutine, no clock, no lock and no I/O: events and the time come in as method calls, and effects
// go out. Package mesh is the shell around it, with the streams, the clock and etcd. The shell
// decides nothing.
//
// # Problem
//
// A backend calls any hub. Its send must reach clients on all hubs, but should travel only to hubs
// that have such clients. A send that begins after a join has returned must see that join, at any
// hub. That holds although hubs come, hang and go, links end for a single side first, and etcd is
// away at times.
//
// # Invariants
//
//   - Read your writes: a send that begins at any hub after a join has returned goes to the
//     member's hub, or names that hub as unreachable. It never misses the member silently.
//     (lease.go has the argument.) A single case breaks this: a hub X is ready and does not know a
//     hub Y. That takes three faults at once. Y has lost its key in etcd. No hub that X reaches has
//     a link with Y. And X can't reach Y for 15 s, or finds no mark of Y: marks stand for an hour,
//     and hubs of an older version have none. When X and Y meet, the missed hub learns it, closes
//     its clients and starts anew. (verdict.go)
//   - A join waits 500 ms at most, even if peers hang.
//   - A hub is ready when each hub that it has heard of knows it. It hears of hubs by their keys,
//     by their marks (for a hub whose lease etcd has ended), and from peers. (Core.checkReady)
//   - Membership = keys in etcd ∪ live links. A link counts for 15 s after its end, unless the hub
//     said farewell. A peer's word that a hub exists counts for as long. (membership.go)
//   - All knowledge from a link goes with the link. Late messages of a replaced link are ignored:
//     (hub, epoch) fences. The epochs of a hub never begin anew. (peer.go)
//   - A hash that a client here needs stays, even if another name with the same hash ends.
//     (interest.go)
//   - The memory for a peer is bounded, however slow the peer is. (feed.go)
//
// # Outline
//
//	core.go        the Core: this hub, its calls; time comes in, effects (effect.go) come out
//	roster.go      the peers that this hub knows
//	outbox.go      the effects of the running call
//	peer.go        the calls about a single peer: its links, its messages
//	membership.go  the state of a peer, membership, the check of a hello
//	lease.go       the filter lease, both sides
//	verdict.go     whether peers have forgotten this hub
//	lapse.go       the hubs that this hub has forgotten
//	interest.go    this hub's interest: references by hash, linger, the log of changes
//	feed.go        sends the interest to a peer: snapshot, then changes
//	keyset.go      a peer's interest: a set of hashes in 12 bytes each
//	route.go       the hubs that a call goes to
//	query.go       the target of a call as hashes
//	hash.go        names to hashes, callers to lanes
//
// # Life of a join
//
// The hub creates the membership and calls Core.AddReference: the hash gets a reference, and each
// feed tells its peer. Core.AwaitInForce makes the join wait at each leaseGrant that may stand for
// a lease without the change. Confirmations (Core.HandleRequest) and time (Core.HandleTick) end the
// wait. Then the effect InForce lets the join return.
//
// # Life of a link
//
// Core.HandleKeys or Core.HandleHello creates a peer, and Core.HandleTick dials it.
// Core.HandleLinked takes its hello, and probes begin. The peer's interest comes and is confirmed.
// The next answer to a probe gives a lease: from then on sends are filtered. If nothing is answered
// for 500 ms, the peer is suspect. After 10 s the link is ended and dialled anew.
//
// # Duties of the shell
//
//   - It reads the monotonic clock under the lock; for Core.FindRoute after the send began.
//   - It carries out the effects of each stream in order.
//   - It reports the end of an inbound stream after its hello, and after all its loops have ended.
//   - It registers in etcd before it lists, and serves backends only after the effect Ready.
//   - It draws the hub's id anew at each start.
//
// A stopped process is covered, because its clock goes on. A clock that stops, as on a suspended
// virtual machine, is covered in part: the peers tell the hub that they have forgotten it. Until
// the first such hello the hub still holds leases that are over, so its own sends may miss peers
// without saying so.
//
// # Bounds
//
//   - A peer has at most 4 unconfirmed interest messages. The log keeps the changes meanwhile; if
//     the log is too short, the peer gets a new snapshot.
//   - A waiting join is remembered until it returns, 500 ms at most.
//
// # Errors
//
// A peer that breaks the protocol loses its link (ErrViolation). Every other failure is a state of
// the peer.
package core
