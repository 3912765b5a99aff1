// Package mesh joins hubs into a cluster (connhub.peer.v1). It tracks the members and their
// interest, finds the hubs that a send must reach, and forwards the send there. A pure core decides
// everything and performs nothing (control/mesh/core, where the problem and the invariants stand).
// This package is the shell around it: it has the streams, the clock and etcd, and decides nothing.
//
// # Outline
//
//	mesh.go        the Mesh: calls the core, carries out effects, joins and leaves the cluster
//	outlink.go     a link that this hub dials
//	lane.go        calls on their way to a peer, in order
//	call.go        a call, and Forward, which puts it in line
//	gathering.go   the outcomes of a call, for each hub
//	inlink.go      a link that a peer dials: PeerService
//	inlane.go      calls that a peer forwards, carried out and answered
//	read.go        a question to a single hub
//	route.go       words of the core that callers of a Mesh use
//	moves.go       moves of connections, and the calls of this hub meanwhile
//	movelinks.go   the links, as package moving needs them
//	movestream.go  the Move stream of a link
//	executor.go    the interface that carries out forwarded calls; package control implements it
//	streams        queues for streams, and reads that a handler can wait for
//	wire           the codec of lanes: sends and their results take a short way
//
// Package moving is the shell of a second pure core, for moves (control/mesh/move).
//
// # Life of a call
//
// The router asks RouteFor and passes the call to Forward. Forward puts it in line on the caller's
// lane of each found hub. The lane's sender marshals the calls in line into a single message. The
// peer's lane lets the Executor begin each call, in order, before it reads the next message. It
// writes to the clients once for several calls in a row, then answers: the present results go back
// in a single message, the rest later. Each result sets its answer in the Gathering, which Wait
// returns and Then reports.
//
// If the link ends, or the peer is silent for 500 ms, the outcome is unknown. No call waits for a
// batch to fill up: while a message is under way, the next message gathers.
//
// # Goroutines
//
//   - Run: etcd and the ticker.
//   - Moves.runMoves and moving.Shell.Run: the work of moves.
//   - For each link that this hub dials: outLink.runLink. It owns a goroutine that sends control
//     messages, and two for each lane and for the Move stream.
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
// The gate of moves comes before all locks: see package moving. Mesh.mu guards the core and the
// tables of links. Effects are carried out under it. Code under it neither waits nor calls out,
// except for the callbacks of waiting joins, which only leave a note. A link's mu, a lane's mu and
// the lock of its waitlist come after it and are leaves. A caller of Add or Remove may hold the
// lock of a hub's connection; code under Mesh.mu must not take that lock.
//
// # Backpressure
//
// The core bounds the interest that waits for a peer. Beside that:
//
//   - A Control stream has a queue of 256 messages, more than a correct peer can be due. If the
//     queue of a peer is full, the peer loses its link.
//   - A lane has 4,096 calls or 32 MiB that have not begun. At that bound its callers wait, for as
//     long as the peer answers probes and the lane makes progress.
//   - A Move stream has a queue of 65,536 steps. If it is full, the link ends.
//   - A lane has 16,384 calls without a result. The outcome of any further call is unknown.
//
// # Errors
//
// A peer that breaks the protocol loses its link (ErrViolation). Every other failure is a state of
// the peer. The log has each link that begins or ends, and a failing dial once for each outage.
// Calls don't fail: an outcome without proof is unknown.
package mesh
