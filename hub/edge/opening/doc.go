// Package opening reads the first request of a client, and answers the request if it asks for a
// WebSocket.
//
// # Purpose
//
// net/http's server makes two buffers, two contexts and a response for each connection. To give the
// connection away it stops a second goroutine, which reads ahead. That was half of the cost of a
// client that connects. This package parses the request with net/http too, but has only as much of
// a server around it as an upgrade needs. All else goes to net/http's server, with the bytes that
// were read: pages, methods but GET, bodies, long heads, and everything that is not HTTP/1.1. So
// requests with a fault in their HTTP are answered by net/http alone.
//
// The package also has the rules of RFC 6455 and RFC 7692 for the headers of an upgrade.
//
// # Life of a connection
//
//	Read         the first request, at most headBytes, until a deadline
//	  Request    a GET of HTTP/1.1 that asks for a WebSocket; TakeConn or Finish ends it
//	  Replayed   any different connection; net/http reads the bytes again
//
// # Goroutines
//
// A Crew has the goroutines that read and answer requests. Some of them wait for further
// connections, for a second at most. Read runs on the goroutine of its caller. If the handler waits
// for the end of the request's context, a goroutine reads ahead meanwhile, to see whether the
// client hangs up. TakeConn and Finish wait for it.
//
// # Locking
//
// The lock of a context is held alone.
//
// # Backpressure
//
// A request has a buffer of headBytes while it is read and answered.
//
// # Errors
//
// Read returns the error of the connection, or an error if the hub waits for no further requests.
// Then the client gets no answer.
package opening
