// Package mesh joins hubs into a cluster (connhub.peer.v1). It tracks the members and their
// interest, finds the hubs that a send must reach, and forwards the send there. A pure core decides
// everything and performs nothing. The shell around it has the streams, the clock and etcd, and
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
//     by their marks (for a hub whose lease etcd has ended), and from peers. (core.checkReady)
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
//	core.go        the core: this hub, its calls; time comes in, effects (effect.go) come out
//	peer.go        the calls about a single peer: its links, its messages
//	membership.go  the state of a peer, membership, the check of a hello
//	lease.go       the filter lease, both sides
//	verdict.go     whether peers have forgotten this hub
//	lapse.go       the hubs that this hub has forgotten
//	interest.go    this hub's interest: references by hash, linger, the log of changes
//	feed.go        sends the interest to a peer: snapshot, then changes
//	keyset.go      a peer's interest: a set of hashes in 12 bytes each
//	route.go       the hubs that a call goes to
//	hash.go        names to hashes, callers to lanes
//
// The shell:
//
//	mesh.go        the Mesh: calls the core, carries out effects, joins and leaves the cluster
//	outlink.go     a link that this hub dials
//	lane.go        calls on their way to a peer, in order
//	gathering.go   the outcomes of a call, for each hub
//	inlink.go      a link that a peer dials: PeerService
//	inlane.go      calls that a peer forwards, carried out and answered
//	read.go        a question to a single hub
//	query.go       the target of a call, as the core wants it
//	executor.go    the interface that carries out forwarded calls; package control implements it
//
// # Life of a join
//
// The hub creates the membership and calls core.addReference: the hash gets a reference, and each
// feed tells its peer. core.awaitInForce makes the join wait at each leaseGrant that may stand for
// a lease without the change. Confirmations (core.handleRequest) and time (core.handleTick) end the
// wait. Then the effect inForce lets the join return.
//
// # Life of a link
//
// core.handleKeys or core.handleHello creates a peer, and core.handleTick dials it.
// core.handleLinked takes its hello, and probes begin. The peer's interest comes and is confirmed.
// The next answer to a probe gives a lease: from then on sends are filtered. If nothing is answered
// for 500 ms, the peer is suspect. After 10 s the link is ended and dialled anew.
//
// # Life of a call
//
// The router asks Route and passes the call to Forward. Forward puts it in line on the caller's
// lane of each found hub. The lane's sender marshals the calls in line into a single message. The
// peer's lane lets the Executor begin each call, in order, before it reads the next message. It
// writes to the clients once for several calls in a row, then answers: the present results go back
// in a single message, the rest later. Each result sets its answer in the Gathering, which Wait
// returns and Then reports.
//
// If the link ends, or the peer is silent for 500 ms, the outcome is unknown. No call waits for a
// batch to fill up: while a message is under way, the next message gathers.
//
// # Duties of the shell
//
//   - It reads the monotonic clock under the lock; for core.findRoute after the send began.
//   - It carries out the effects of each stream in order.
//   - It reports the end of an inbound stream after its hello, and after all its loops have ended.
//   - It registers in etcd before it lists, and serves backends only after the effect ready.
//   - It draws the hub's id anew at each start.
//
// A stopped process is covered, because its clock goes on. A clock that stops, as on a suspended
// virtual machine, is covered in part: the peers tell the hub that they have forgotten it. Until
// the first such hello the hub still holds leases that are over, so its own sends may miss peers
// without saying so.
//
// # Goroutines
//
//   - Run: etcd and the ticker.
//   - For each link that this hub dials: outLink.runLink. It owns a goroutine that sends control
//     messages, and two for each lane.
//   - For each link that a peer dials: gRPC's handler of the Control stream, and of each lane. Each
//     handler owns a goroutine that reads and a goroutine that writes, which end with the stream.
//     The reader of a lane executes the calls.
//
// Calls that wait for clients, or for a join to be in force, have no goroutine. They are entries in
// a list of the lane (waitlist.List), and the lane's writer sends their results. Close waits for
// all goroutines but two kinds. gRPC's handlers are for the server to wait for. And the goroutine
// that releases the callers of a suspect peer waits for nothing.
//
// # Locking
//
// Mesh.mu guards the core and the tables of links. Effects are carried out under it. Code under it
// neither waits nor calls out, except for the callbacks of waiting joins, which only leave a note.
// A link's mu, a lane's mu and the lock of its waitlist come after it and are leaves. A caller of
// Add or Remove may hold the lock of a hub's connection; code under Mesh.mu must not take that
// lock.
//
// # Backpressure
//
//   - A peer has at most 4 unconfirmed interest messages. The log keeps the changes meanwhile; if
//     the log is too short, the peer gets a new snapshot.
//   - A waiting join is remembered until it returns, 500 ms at most.
//   - A Control stream has a queue of 256 messages, more than a correct peer can be due. If the
//     queue of a peer is full, the peer loses its link.
//   - A lane has 4,096 calls or 32 MiB that have not begun. At that bound its callers wait, for as
//     long as the peer answers probes and the lane makes progress.
//   - A lane has 16,384 calls without a result. The outcome of any further call is unknown.
//
// # Errors
//
// A peer that breaks the protocol loses its link (errViolation). Every other failure is a state of
// the peer. The log has each link that begins or ends, and a failing dial once for each outage.
// Calls don't fail: an outcome without proof is unknown.
package mesh
