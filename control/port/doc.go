// Package port guards the gRPC port: it bounds the cost of callers before, while and after a call
// is carried out. Package control serves the API behind it.
//
// # Life of a call
//
//  1. A connection begins as a stranger's, without a valid credential, and strangers are few
//     (strangers.go). Every known connection belongs to a credential, which has a share of the port
//     (gate.go, holders.go).
//  2. The Guard sees the headers of a call in the transport's reader, and identifies the caller
//     (grpccall.go). Few methods need no credential (open.go).
//  3. The registrar gets the call before its message is read (registrar.go).
//  4. The Guard recovers, counts, authenticates and authorizes (guard.go).
//  5. The message is read piece by piece, decoded and checked (grpccall.go, registrar.go,
//     control/form).
//  6. Behind the handler the Guard turns an error into a status, by the table of control/failure.
//     It holds the answer until the transport has written it (answer.go).
//
// # Goroutines
//
// The package starts none. gRPC runs a goroutine for each connection and for each call; callWorkers
// of them are reused. A timer reviews each stranger.
//
// # Locking
//
// Leaves, under which nothing is called: budget.mu, also under inbound.mu; gate.mu; and
// inFlight.mu, which counts the calls that a farewell waits for. The rest is constant after
// Guard.SetMethods. gRPC locks for itself.
//
// # Backpressure
//
// Strangers are bounded in number, bytes and time. Fair shares of the port bound the connections of
// a credential. A connection may have maxCalls in flight. A request is bounded before it is read
// (form.MaxRequestBytes, or its row in OpenMethods).
//
// A budget of bytes bounds the memory that the calls of backends hold together (budget.go):
//   - A message is reserved when its length is known, before it comes.
//   - A call and a stream count for their cost beside the message.
//   - A unary call and its answer count until the transport has written the answer, or the
//     connection is over (answer.go).
//   - A service counts its own memory for a stream in the Account of the caller.
//
// Of the written bytes the kernel keeps UnsentBytes for a caller that does not read.
//
// # Tests
//
// The promises of the port to backends and strangers are tested on a whole server, in package
// control.
package port
