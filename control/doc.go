// Package control serves the gRPC control API (connhub.control.v1) with which backends reach
// clients. It routes each call to the hubs that may have matching connections, and reports the
// result. The hub carries out the verbs.
//
// # Life of a call
//
//  1. The guard sees the headers in the transport's reader, and identifies the caller (call.go). A
//     connection without a valid credential yet is a stranger's, and strangers are few
//     (strangers.go). Every known connection belongs to a credential, which has a share of the port
//     (port.go, holders.go).
//  2. The registrar gets the call before its message is read (registrar.go).
//  3. The guard recovers, counts, authenticates and authorizes (interceptor.go).
//  4. The message is decoded and checked against the rules in the protos (control/form).
//  5. The handler, in the file named after its proto, calls the router (router.go, read.go,
//     verb.go).
//  6. Errors of every step become a status by a single table (control/failure).
//
// Server.Publish serves the clients: a message from client to client goes the way of a send that
// waits for nothing (publish.go).
//
// # Goroutines
//
// gRPC runs a goroutine for each connection and for each call; callWorkers of them are reused.
// Server.Shutdown waits for all calls. Leave ends the calls that wait for a message.
//
// A handler waits in Send, bounded by wait_timeout; in AddToGroups until the join is in force, 500
// ms at most; and for the answers of peers, until they are silent. It never waits beyond the call's
// deadline.
//
// A SendStream (stream.go) has a goroutine more. It takes sends, and ends with the stream. Sends
// whose results are not due wait in a list (waitlist.List): the goroutine that finds out the last
// outcome has the handler give the result. Forwarded calls wait alike, in a list of each lane
// (control/mesh).
//
// # Locking
//
// Leaves, under which nothing is called: budget.mu, also under answers.mu and inbound.mu;
// answers.mu of a SendStream, and the lock of its waitlist, maybe under the lock of a connection;
// port.mu; and inFlight.mu, which counts the calls that a farewell waits for. The rest of the
// package is constant after New. The hub and gRPC lock for themselves.
//
// # Backpressure
//
// Strangers are bounded in number, bytes and time. Fair shares of the port bound the connections of
// a credential. A connection may have maxCalls in flight. A request is bounded before it is read
// (form.MaxRequestBytes, or its row in openMethods). A SendStream stops reading while the transport
// has not taken too many of its results (maxUnanswered, maxUnansweredBytes).
//
// A budget of bytes bounds the memory that the calls of backends hold together (budget.go):
//   - A message is reserved when its length is known, before it comes.
//   - A call, a stream and a send count for their cost beside the message.
//   - A unary call and its answer count until the transport has written the answer, or the
//     connection is over (answer.go).
//
// Of the written bytes the kernel keeps unsentBytes for a caller that does not read.
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
