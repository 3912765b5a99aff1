// Package jsonappend appends pieces of JSON (RFC 8259) to a slice, like package strconv.
//
// # Purpose
//
// The JSON protocols encode a message once for many clients, with its payload. encoding/json would
// escape HTML characters, which these clients do not need, and would copy each payload twice.
//
// # Goroutines, locking, errors
//
// Pure functions, safe for concurrent use. They never fail: each byte that is not UTF-8 becomes
// U+FFFD.
package jsonappend
