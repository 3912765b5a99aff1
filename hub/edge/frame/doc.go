// Package frame appends the WebSocket frames of a server to a slice (RFC 6455 §5.2).
//
// # Purpose
//
// A message is framed once, and the same bytes go to every connection. This is possible because a
// server does not mask its frames (§5.1): they are equal for all clients. The package also parses
// headers and close frames.
//
// # Goroutines, locking, errors
//
// Pure functions, safe for concurrent use. They append to a slice, like those of package strconv,
// and never fail. Parsers report false if the input is incomplete or malformed.
package frame
