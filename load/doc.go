// Package load is a crowd of WebSocket clients that put load on a hub and measure what reaches them.
//
// # Purpose
//
// `connhub bench` opens thousands of clients in one process and wants to know how many messages came, and how long
// each was on its way. A client library made for applications costs more than the hub under test; here a client is a
// socket, a goroutine and 512 bytes. It can do what a server needs of it: the opening handshake, reading frames, answering pings,
// and closing. It sends no messages. The package imports nothing of the project, so that it tests what it
// shares nothing with.
//
// # Life of a client
//
// [Crowd.Open] dials, shakes hands and starts the client's goroutine, which reads until the server ends the
// connection or [Crowd.Close] does: close frame, the server's answer, end of the socket (RFC 6455 §7.1.1). The server's
// end closes first, so no port of this machine stays in TIME_WAIT.
//
// A message that begins with a [Stamp] tells when it was sent. Sender and clients must be in the same process: then both
// times are of one clock.
//
// # Goroutines
//
// One for each open client, and Config.Concurrency more while Open runs. Close waits for all of them.
//
// # Locking
//
// client.writing orders the frames of one client. Crowd.mu guards the list of clients and is never held across a
// write. The counts of messages are in shards with a lock each, so that clients on several cores do not wait for each other.
//
// # Backpressure
//
// None is wanted: a client reads as fast as it can, and what it reads is counted, not kept. A read buffer that comes back full is
// replaced by a large one from a pool until the socket is drained.
//
// # Errors
//
// Open ends with the first client that is refused, and says which and why. A connection that ends later is counted as
// lost; [Crowd.Lost] has the first reason.
package load
