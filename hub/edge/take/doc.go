// Package take waits for connections that are at different hubs.
//
// # Purpose
//
// A client may come back to any hub. If its connection is at a different hub, or on its way
// elsewhere, this hub takes it: a Taker has it moved here, and then the client resumes as at any
// hub. The package decides which requests are worth a take, and bounds the takes under way.
//
// # Life of a take
//
//	Find     the request may be that of a connection's client
//	Await    the Taker is asked; the client waits for Timeout at most
//	Close    all takes end
//
// The caller admits the client before Await (package admit), as a new client: its right is not
// proven. The Taker proves it, at the hub that has the connection.
//
// # Goroutines
//
// None of its own. A take waits on the goroutine of its caller. Two more goroutines wait for the
// end of its client and of its place in the lobby.
//
// # Locking
//
// The mutex of the places is a leaf.
//
// # Backpressure
//
// Config.Most bounds the takes under way. When half of the places are taken, an address has an
// eighth of them at most, and a hub that ids name a quarter (places.go). Each take holds the socket
// of a client with its place among the links, about 22 KB, and the goroutines above, for Timeout at
// most. Its client is a stranger in line (package lobby), so the lobby may drop it for a newcomer
// of a different address. A made-up id that has not the form of an id, a request without a token,
// and a protocol whose connections can't be resumed begin no take.
//
// # Errors
//
// Await returns hub.ErrResumeRefused if the client can never have the connection back. ErrLimit,
// ErrClosed and ErrUnknown pass: the client should ask again. ErrLeft means that no client waits
// any more.
package take
