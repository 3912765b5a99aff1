// Package control serves the gRPC control API (connhub.control.v1) with which backends reach
// clients. It routes each call to the hubs that may have matching connections, and reports the
// result. The hub carries out the verbs.
//
// # Life of a call
//
//  1. The port admits the call, reads, decodes and checks its message (control/port).
//  2. The handler, in the file named after its proto, calls the router (router.go, verb.go), or
//     the Reader (control/reading) if the call only reads.
//  3. The port turns an error of any step into a status, by a single table (control/failure).
//
// Server.Publish serves the clients: a message from client to client goes the way of a send that
// waits for nothing (publish.go).
//
// # Goroutines
//
// gRPC runs a goroutine for each connection and for each call. Server.Shutdown waits for all calls.
// Leave ends the calls that wait for a message.
//
// A handler waits in Send, bounded by wait_timeout; in AddToGroups until the join is in force, 500
// ms at most; and for the answers of peers, until they are silent. It never waits beyond the call's
// deadline.
//
// A SendStream (stream.go) has a goroutine more. It takes and begins sends, and ends with the
// stream. The handler has the links of clients write, for all requests that have come
// (burstqueue.go). Only while the handler sends a response, the goroutine does that itself. Before
// many writes the handler may wait a moment for the sends that all streams expect
// (internal/expected). Streams share the memory of bursts, so a stream that rests holds none. Sends
// whose results are not due wait in a list (waitlist.List): the goroutine that finds out the last
// outcome has the handler give the result. Forwarded calls wait alike, in a list of each lane
// (control/mesh).
//
// # Locking
//
// Leaves, under which nothing is called but the port's budget: answers.mu and burstQueue.mu of a
// SendStream, and the locks of what streams expect and of a waitlist, maybe under the lock of a
// connection. burstQueue.turn is held while links write, and all others are below it. The rest of
// the package is constant after New. The port, the hub and gRPC lock for themselves.
//
// # Backpressure
//
// The port bounds connections, calls and their bytes. A SendStream stops reading while the
// transport has not taken too many of its results (maxUnanswered, maxUnansweredBytes). Its sends
// count in the budget of the port.
//
// A message from client to client waits only for a peer that is behind and makes progress. A peer
// without room for it loses it, and the hub counts the loss. Limits of the API bound the work that
// a request may cause.
//
// # Errors
//
// Each carries google.rpc.ErrorInfo with a reason of the API; INVALID_ARGUMENT carries BadRequest;
// UNAVAILABLE and RESOURCE_EXHAUSTED carry RetryInfo. An error that has no row in the table is
// logged once and answered "internal error": its text never leaves the process.
package control
