// Package protocol defines the protocols of clients: they yield messages, without the bytes around
// them.
//
// # Purpose
//
// A protocol knows how a message looks to its clients, for instance as JSON. It does not know how
// messages stand on a link, for instance as frames of a WebSocket. That is a framing (package
// framing), which joins with a protocol to the hub.Protocol that the hub knows. So a protocol is
// written once for all kinds of links. A linter rule holds that protocols import no framing.
//
// Package edge adds the methods that it needs besides, such as Receive.
//
// # Goroutines, locking, errors
//
// Implementations have no state, or share it safely: their methods may run concurrently. They never
// fail.
package protocol
