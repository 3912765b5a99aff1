// Package auth identifies clients by signed tokens, and backends and peers by shared secrets.
//
//   - [Tokens] verifies the tokens with which browsers, phones and devices connect. A [TokenKey]
//     signed them, or a foreign issuer did, and a [KeySet] holds the issuer's public keys.
//   - [Secrets] maps a bearer secret of the gRPC port to the role of its caller.
//   - [Roles] hold the permissions that a token gives its client in groups.
//
// # Life
//
// Keys and secrets are loaded from files at start and never change afterwards. Only a KeySet is
// read again, until it is closed.
//
// # Goroutines and locking
//
// An open KeySet has a goroutine of its own. KeySet.mu guards the state of its refresh.
// roleTable.mu guards the table that shares equal roles. No code waits while it holds either. All
// methods are safe for concurrent use.
//
// # Backpressure
//
// The work of Verify and Identify grows with the bytes that strangers send. The callers bound the
// size of a token and of a secret (limits of HTTP and gRPC headers). A stranger can cause a refresh
// of a KeySet, with the id of an unknown key, but only once in [keySetPause]. Further calls wait
// for that refresh, or fail at once.
//
// # Errors
//
// [ErrTokenInvalid], [ErrTokenExpired] and [ErrClaimInvalid]. No error and no formatted value of
// this package contains a token, a key or a secret. Only [TokenKey.AccessKey] shows a key.
package auth
