// Package auth tells who somebody is: clients by signed tokens, backends and peers by shared secrets.
// [TokenKey] signs and verifies the tokens with which browsers, phones and devices connect; [Secrets] knows
// the bearer secrets of the gRPC port and the role of each. What an identity may do is decided where it is
// used.
//
// # Life
//
// Both are loaded once from files at start and never change afterwards.
//
// # Goroutines and locking
//
// None: every method may be called concurrently.
//
// # Backpressure
//
// None. Verify and Identify do work in proportion to what strangers send: the callers bound the size of a
// token (HTTP and gRPC header limits).
//
// # Errors
//
// [ErrTokenInvalid], [ErrTokenExpired] and [ErrClaimInvalid]. No error and no formatted value of this package
// contains a token, a key or a secret.
package auth
