// Package control serves the gRPC control API (connhub.control.v1) with which backends reach clients. It
// translates: proto to the hub's Go types on the way in, receipts and sentinels to proto and status codes
// on the way out. What the verbs do is the hub's business.
//
// # Life of a call
//
// The guard sees its headers in the transport's reader (call.go), and who calls; a connection that has shown no valid
// credential yet is a stranger's, of which there are few (strangers.go), and each other one is that
// of a credential, which has its share of the port (port.go, holders.go). The registrar (registrar.go) gets the call
// before its message is read; the guard (interceptor.go) recovers,
// counts, authenticates and authorizes; then the message is decoded and checked against the rules in the
// protos (validate.go); the handler, in the file named after its proto, makes one call on the small
// interface that it declares. Errors of every step become a status in one place, by one table (status.go).
//
// Server.Publish is for the other side: what clients send to each other goes the way of a send that waits for nothing (publish.go).
//
// # Goroutines
//
// One a connection and one a call, gRPC's own: of callWorkers that take calls, as far as they are free. Server.Shutdown waits
// for all calls; Leave ends those that wait for a message, by the context that the transport waits with. A handler waits in Send,
// bounded by wait_timeout; in AddToGroups until the join is in force, 500 ms at most; for the answers of other hubs, until they
// are silent; and never beyond the call's deadline. A SendStream (stream.go) has one more that takes sends,
// which ends with the stream. Sends whose results are not due wait in a list (waitlist.List): the
// goroutine that finds out the last outcome has the handler give the result. So do forwarded calls,
// in a list of each lane (control/mesh).
//
// # Locking
//
// Leaves, under which nothing is called: budget.mu, also under answers.mu and inbound.mu;
// answers.mu of a SendStream, and the lock of its waitlist, maybe under the lock of a connection;
// port.mu; and inFlight.mu, which counts the calls that a farewell waits for. Everything else
// here is constant after New. The hub and gRPC lock for themselves.
//
// # Backpressure
//
// Strangers are bounded in number, bytes and time, and the connections of a credential by fair
// shares of the port. A request is bounded before it is read
// (maxRequestBytes, or its row in openMethods) and a connection in the calls that it may have in
// flight (maxCalls). A SendStream stops reading while too many of its results are not with the
// transport (maxUnanswered, maxUnansweredBytes). What the calls of backends hold together is one
// budget of bytes (budget.go): a message is reserved when its length is known, before it comes; a
// call, a stream and a send count for what they cost beside that; a call of one message, with its
// answer, until the transport has written that or the connection is over (answer.go); of what it has
// written the kernel keeps unsentBytes for a caller that does not read. A client that
// publishes waits for no other hub: what one has no room for is lost there, and counted. Everything
// that a request may make the hub do is bounded by limits of the API.
//
// # Errors
//
// Each carries google.rpc.ErrorInfo with a reason of the API; INVALID_ARGUMENT carries BadRequest;
// UNAVAILABLE and RESOURCE_EXHAUSTED carry RetryInfo. An error that has no row in the table is logged once
// and answered "internal error": its text never leaves the process.
package control
