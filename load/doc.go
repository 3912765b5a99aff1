// Package load is a crowd of WebSocket clients that put load on a hub and measure the messages.
//
// # Purpose
//
// `connhub bench` opens thousands of clients in a process. It reports how many messages arrived and
// how long each message was on its way. A client library made for applications costs more than the
// hub under test; here a client is a socket, a goroutine and 512 bytes. A client does the opening
// handshake, reads frames, answers pings, and closes. It sends no messages. Of the project the
// package imports leaves only, so a fault of the hub's code cannot hide itself in its test.
//
// # Life of a client
//
// [Crowd.Open] dials, shakes hands and starts the client's goroutine. The goroutine reads until the
// server or [Crowd.Close] ends the connection. Close does the closing handshake: close frame, the
// server's answer, end of the socket (RFC 6455 §7.1.1). The server's end closes first, so no port
// of this machine stays in TIME_WAIT.
//
// A message that begins with a [Stamp] tells when it was sent. The sender and the clients must be
// in the same process, so that both times are from the same clock.
//
// # Goroutines
//
// Each open client has a goroutine. While Open runs, there are up to Config.Concurrency more. Close
// waits for all of them.
//
// # Locking
//
// client.writing orders the frames of a client. Crowd.mu guards the set of clients and is never
// held across a write. The counts of messages are in shards, each with its own lock, so that
// clients on several cores do not wait for each other.
//
// # Backpressure
//
// None is wanted: a client reads as fast as it can, and counts messages instead of keeping them. If
// a read fills the client's buffer, the client reads with a large buffer from a pool until the
// socket is drained.
//
// # Errors
//
// Open ends with the first refused client, and its error names the client and the reason. A
// connection that ends later is counted as lost; [Crowd.Lost] returns the first reason.
package load
