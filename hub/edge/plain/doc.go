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
// The hub counts it (connhub_client_messages_total) and passes it to nobody: events to backends come in
// a later version.
//
// # Goroutines, locking, errors
//
// The protocol has no state: one value serves all connections, and nothing in it can fail.
package plain
