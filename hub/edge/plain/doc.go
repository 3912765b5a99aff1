// Package plain is the protocol of clients that request no subprotocol: each message is its bare
// payload. Clients do not see the route, the event or the sender of a message.
//
// # Purpose
//
// A browser's `new WebSocket(url)` with `onmessage`, or any WebSocket tool, works without knowing
// anything about connhub. Text and JSON go out as text messages, binary and protobuf as binary
// messages.
//
// # Messages from clients
//
// Each message becomes an event named "message", for the backends. If the URL has
// `?webpubsub_mode=sendToGroup&group=NAME`, each message goes to the members of that group instead,
// as text or binary like the client sent it. A client without the permission to send to the group
// is closed with 1008: the protocol has no error message.
//
// # Goroutines, locking, errors
//
// Protocol has no state. A value is safe for concurrent use and serves all connections. Errors are
// those of package hub, edge.Rejection and edge.Violation.
package plain
