// Package frame writes the WebSocket frames of a server as bytes (RFC 6455 §5.2).
//
// # Purpose
//
// A message is framed once and the same bytes go to every connection. That works because a server does
// not mask (§5.1): its frames do not differ from client to client. What clients send is read by
// coder/websocket; this package only writes.
//
// # Goroutines, locking, errors
//
// Pure functions that append to a slice, like those of package strconv. Nothing can fail.
package frame
