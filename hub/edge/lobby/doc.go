// Package lobby caps the connections of a port that have not become clients yet: strangers.
//
// # Purpose
//
// A stranger is an accepted connection in one of these states: its TLS handshake or its request has
// not arrived, its answer is being written, or it is kept alive between two requests. A stranger
// costs its client a single packet and the hub a file descriptor. The lobby caps strangers so that
// file descriptors remain for clients, backends and hubs.
//
// # Life of a connection
//
//	Accept          the connection enters. Above Config.Most, drop a stranger or wait
//	  Queue         the stranger waits in line for the hub
//	  Serve, Wait   the hub works for the stranger; the hub waits for the stranger
//	  Leave         the connection is admitted (its socket was taken over), or has ended
//
// # Which stranger is dropped
//
// A newcomer that finds the lobby full replaces a stranger that keeps the hub waiting. The lobby
// picks the address with the most strangers, and of these the stranger that has kept the hub
// waiting longest. So three hundred silent sockets do not delay a client that sends its request.
// The lobby never drops a stranger if
//
//   - the hub is working for it;
//   - it has sent bytes that the hub has not read: then the hub is late, not the client;
//   - it has kept the hub waiting for less than Config.Patience.
//
// If no stranger may be dropped, Accept waits, and newcomers wait in the kernel's queue in order.
//
// A stranger in line waits for a core, for a set of keys, or for its turn to connect. It does not
// keep the hub waiting, but it costs its client only a packet. So an address may fill the lobby
// with strangers in line only while no second address has newcomers:
//
//   - If an address has more than an eighth of Config.Most, and more strangers than the newcomer's
//     address, its last stranger in line makes room for the newcomer.
//   - If a second address has had a newcomer within the last minute, the last stranger in line also
//     makes room for a newcomer of its own address. So Accept goes on.
//
// All addresses of an IPv6 /64 count as a single address.
//
// # Goroutines
//
// WaitInLine starts a goroutine and waits for its end. DropIdle starts a goroutine, which ends when
// the caller stops it. Accept runs on the goroutine that serves the port.
//
// # Locking
//
// Lobby.mu is never held together with a second lock. Sockets are closed without it.
//
// # Backpressure
//
// Accept waits, and the kernel queues connections. Package opening limits the time of a first
// request, and the http.Server that of its requests.
//
// # Errors
//
// Accept retries after temporary errors (no file descriptor left, connection reset) and logs them
// at Warn, at most a line each 10 s. It returns net.ErrClosed after Close, and all permanent errors
// unchanged.
package lobby
