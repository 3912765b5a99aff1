// Package mesh is how hubs speak to each other (connhub.peer.v1): who is a member of the cluster, what each has, which
// hubs a send has to go to, and how it gets there. A pure core decides everything and does nothing; the shell around it
// has the streams, the clock and etcd, and decides nothing.
//
// # Problem
//
// A backend calls any hub, and the send must reach clients on all hubs, but go only to hubs that have some. A
// join that has returned must be seen by each send that begins after it, at whatever hub, though hubs come, hang and go, links
// end for one side before the other, and etcd is away.
//
// # Invariants
//
//   - Read your writes: when a join has returned, a send that begins at another hub goes to the member's hub, or names that
//     hub as unreachable. It is never silently missed. (lease.go has the argument.)
//     One thing can break it: a hub is ready and does not know of another one. That takes three faults
//     at once. The other hub has lost its key in etcd. No hub that the new one reaches has a link with
//     the other one. And the new one can't reach the other one for 15 s, or finds no mark of it: marks
//     stand for an hour, and hubs of an older version have none. When the two meet, the hub that was
//     missed learns it, closes its clients and starts anew. (verdict.go)
//   - A join waits 500 ms at most, whatever its peers do.
//   - A hub is ready when each hub that it has heard of knows it: by its key, by its mark (a hub whose
//     lease etcd has ended), or by the word of another hub. (core.checkReady)
//   - Membership = keys in etcd ∪ live links. A link counts for 15 s after its end, unless the hub said farewell;
//     the word of another hub counts for as long. (membership.go)
//   - What was learned on a link goes with the link. What still comes of a link that another has replaced counts for nothing:
//     (hub, epoch) fences. Epochs of one hub never begin anew. (peer.go)
//   - A hash that anybody here needs is never taken away by the end of another name with the same hash. (interest.go)
//   - Everything that is remembered for a peer is bounded, however slow it is. (feed.go)
//
// # Outline
//
//	core.go      the core: this hub, its calls; time comes in, effects (effect.go) come out
//	peer.go      the calls about one peer: its links, what it says
//	membership.go  what is known of a peer, membership, whose hello is accepted
//	lease.go     the filter lease, both sides
//	verdict.go   whether other hubs have forgotten this one
//	lapse.go     which hubs this one has forgotten
//	interest.go  what this hub has: references by hash, linger, the log of changes
//	feed.go      telling it to a peer: snapshot, then changes
//	keyset.go    what a peer has: a set of hashes in 12 bytes each
//	route.go     which hubs a call goes to
//	hash.go      names to hashes, callers to lanes
//
// The shell:
//
//	mesh.go      the Mesh: calls of the core, its effects carried out, joining and leaving the cluster
//	outlink.go   a link that this hub dials
//	lane.go      calls on their way to a peer, in order
//	gathering.go what became of a call at each hub
//	inlink.go    a link that a peer dials: PeerService
//	inlane.go    calls that a peer passes on, carried out and answered
//	read.go      a question to one hub
//	executor.go  what the mesh needs from above: somebody who carries out what peers forward
//
// # Life of a join
//
// The hub makes the member, then calls core.addReference: the hash gets a reference, each feed tells its peer, and the call waits at
// each grant that may be a lease without it. Confirmations (core.handleRequest) and time (core.handleTick) end the waiting, and the
// effect inForce lets the join return.
//
// # Life of a link
//
// core.handleKeys or core.handleHello makes a peer; core.handleTick dials it; core.handleLinked brings its hello, and probes begin. The peer's
// interest comes, is confirmed, and with the next answer there is a lease: sends are filtered. When nothing is answered
// for 500 ms the peer is suspect, after 10 s the link is ended, and dialled anew.
//
// # Life of a call
//
// The router asks Route and gives the call to Forward, which puts it in line on the caller's lane of each hub found. The lane's
// sender marshals what is in line, in one message; the peer's lane has the Executor begin each call, in order, before it reads
// the next message, writes to the clients what several calls in a row have for them, and answers: the results that there are go
// back in one message, the others later. Each settles its answer in the Gathering, which Wait returns or Then tells of.
// When the link ends, or the peer is silent for 500 ms, the outcome is unknown. Nothing ever waits for a batch to fill up: while
// a message is under way, the next gathers.
//
// # What the shell owes the core
//
// It reads the monotonic clock under the lock, for core.findRoute after the send began. It carries out
// effects in order, for each stream; an inbound stream is reported ended only after its hello, and
// after all its loops are over. It registers in etcd before it lists, and serves backends only
// after the effect ready. The hub's id is drawn anew at each start. A stopped process is covered
// (its clock goes on). A clock that stops, as on a suspended virtual machine, is covered in part:
// its peers tell the hub that they have forgotten it. Until the first hello, leases that are over
// still hold for it, so its own sends may miss others without saying so.
//
// # Goroutines
//
// Run: etcd and the ticker. For each link that this hub dials: outLink.runLink, which owns one that says control messages and two
// for each lane. For each link that a peer dials: gRPC's handler of the Control stream, and of each lane; each owns one that
// reads and one that writes, which end with the stream; that of a lane executes what it reads. Calls
// that wait for clients, or for a join to be in force, have no goroutine: they are entries in a list
// of the lane (waitlist.List), and the goroutine that writes says their results. Close waits for all
// but gRPC's, for which the server waits, and for one that lets go of who waits for a peer that is
// suspect, which waits for nothing.
//
// # Locking
//
// Mesh.mu guards the core and the tables of links; effects are carried out under it, and nothing under it waits or calls
// out, but for those that wait for a join: they only leave a note. A link's mu, a lane's mu and the
// lock of its waitlist come after it and are leaves. A connection of the hub may be locked when Add and Remove take
// Mesh.mu; never the other way round.
//
// # Backpressure
//
// At most 4 interest messages are unconfirmed at a peer; what changes meanwhile is found in the log, and when that is too
// short in a new snapshot. A call that waits is remembered until it returns, 500 ms at most. A Control stream has a queue of 256
// messages, more than a peer that keeps to the protocol can be due; a peer for which it is full loses its link. A lane
// has 4,096 calls or 32 MiB that are not begun: then callers of that lane wait, for as long as the peer answers probes and
// something moves; and 16,384 calls without a result.
//
// # Errors
//
// A peer that breaks the protocol loses its link (errViolation); everything else that goes wrong is a state of the peer.
// Links that come and go are logged, a dial that fails once for each outage. Calls don't fail: what is not known to have
// come about is unknown.
package mesh
