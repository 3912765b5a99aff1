// Package lobby bounds the strangers of a port.
//
// # Purpose
//
// A stranger is a connection that a port has accepted and that is nothing more yet: its TLS handshake or its request has not
// come, its answer is being written, or it is kept alive between two requests. A stranger costs its client one packet
// and the hub a file descriptor. The lobby caps them, so that they never take the files of what is in use.
//
// # Life of a connection
//
//	Accept          the connection enters. Above Config.Most another stranger is dropped, or Accept waits
//	  Queue         the stranger waits in line for the hub
//	  Serve, Wait   the hub works for the stranger; the hub waits for the stranger
//	  Leave         the connection is admitted (it was hijacked), or has ended
//
// # Which stranger is dropped
//
// A newcomer that finds the lobby full takes the place of a stranger that keeps the hub waiting: of the address that has most
// strangers, the one that has kept the hub waiting longest. So three hundred silent sockets delay nobody that sends its request.
// Three kinds are never dropped. The hub is working for the first. The second has sent something that the hub has not read:
// there the hub is late, and not the client. The third has kept the hub waiting for less than Config.Patience. If every stranger is of
// these kinds, Accept waits, and newcomers wait in the kernel's queue in their order.
//
// A stranger in line for the hub, for a core or for a set of keys, keeps nobody waiting, but it costs its client one packet. So one address may hold the lobby
// only as long as no other address wants in. If an address has more than an eighth of Config.Most, and more strangers than the
// newcomer's, its last stranger in line makes room for a newcomer of another address. If another address has come within
// the last minute, it also makes room for a newcomer of its own, so that Accept goes on. All addresses of an IPv6 /64 count
// as one.
//
// # Goroutines
//
// None of its own. Accept runs on the goroutine that serves the port.
//
// # Locking
//
// Lobby.mu is held alone. Sockets are closed outside of it.
//
// # Backpressure
//
// Accept waits, and the kernel queues. Time limits are the http.Server's.
//
// # Errors
//
// Accept retries what is temporary (no file descriptor left, a connection that was reset) and logs it at Warn, one line in
// 10 s at most. It returns net.ErrClosed after Close, and every other error as it is.
package lobby
