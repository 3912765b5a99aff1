// Package plain is the protocol of clients that asked for none: each message is its bare payload, and a
// client can't see by which route it came, which event it names, or who sent it.
//
// # Purpose
//
// A browser's `new WebSocket(url)` with `onmessage`, or any WebSocket tool, works without knowing anything
// about connhub. Text and JSON go out as text messages, binary as binary messages, one frame each.
//
// # What clients send
//
// Each message is an event named "message", for the backends; or, with `?webpubsub_mode=sendToGroup&group=NAME`, a message to
// the members of that group, who get it as what it was, text or binary. A client that may not send there is closed (1008): it has
// no other way to be told.
//
// # Goroutines, locking, errors
//
// The protocol has no state: one value serves all connections. Errors are those of the hub.
package plain
