// Package jsonappend appends pieces of JSON (RFC 8259) to a slice, like the functions of package strconv.
//
// # Purpose
//
// The protocols whose messages are JSON make them once for many clients, payload and all. encoding/json would escape for HTML, which no
// client here is, and copy a payload twice.
//
// # Goroutines, locking, errors
//
// Pure functions. Nothing can fail: bytes that are not UTF-8 become U+FFFD.
package jsonappend
