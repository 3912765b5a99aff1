// Package mesh is how hubs speak to each other (connhub.peer.v1): who is a member of the cluster, what each has, and which
// hubs a send has to go to. What is here is the pure core; it decides everything and does nothing.
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
//   - A join waits 500 ms at most, whatever its peers do.
//   - Membership = keys in etcd ∪ live links. A link counts for 15 s after its end, unless the hub said farewell;
//     the word of another hub counts for as long. (link.go)
//   - What was learned on a link goes with the link. What still comes of a link that another has replaced counts for nothing:
//     (hub, epoch) fences. Epochs of one hub never begin anew. (peer.go)
//   - A hash that anybody here needs is never taken away by the end of another name with the same hash. (interest.go)
//   - Everything that is remembered for a peer is bounded, however slow it is. (feed.go)
//
// # Outline
//
//	core.go      the core: this hub, its calls; time comes in, effects (effect.go) come out
//	peer.go      the calls about one peer: its links, what it says
//	link.go      what is known of a peer, membership, whose hello is accepted
//	lease.go     the filter lease, both sides
//	interest.go  what this hub has: references by hash, linger, the log of changes
//	feed.go      telling it to a peer: snapshot, then changes
//	keyset.go    what a peer has: a set of hashes in 12 bytes each
//	route.go     which hubs a call goes to
//	hash.go      names to hashes, callers to lanes
//
// # Life of a join
//
// The hub makes the member, then calls core.add: the hash gets a reference, each feed tells its peer, and the call waits at
// each grant that may be a lease without it. Confirmations (core.requested) and time (core.tick) end the waiting, and the
// effect inForce lets the join return.
//
// # Life of a link
//
// core.list or core.greeted makes a peer; core.tick dials it; core.linked brings its hello, and probes begin. The peer's
// interest comes, is confirmed, and with the next answer there is a lease: sends are filtered. When nothing is answered
// for 500 ms the peer is suspect, after 10 s the link is ended, and dialled anew.
//
// # The shell
//
// What is to come around the core owes it this. It reads the monotonic clock before each call, and for core.route after
// the send began. It carries out effects in order, for each stream; an inbound stream is reported ended only after its hello,
// and after all its loops are over. It registers in etcd before it lists, and serves backends only after the
// effect ready. It draws the hub's id anew at each start. A stopped process is covered (its clock goes on); a stopped clock, as of a
// suspended virtual machine, is not, unless the shell's clock counts the time of the suspension (CLOCK_BOOTTIME).
//
// # Goroutines
//
// None yet.
//
// # Locking
//
// None. The core is not safe for concurrent use, except that route, admits, next and peerInfos only read: a
// sync.RWMutex of the shell around it fits.
//
// # Backpressure
//
// At most 4 interest messages are unconfirmed at a peer; what changes meanwhile is found in the log, and when that is too
// short in a new snapshot. A call that waits is remembered until it returns, 500 ms at most.
//
// # Errors
//
// A peer that breaks the protocol loses its link (errViolation); everything else that goes wrong is a state of the peer.
// Nothing is logged here: hangUp and fence carry their cause.
package mesh
