// Package auth tells who somebody is: clients by signed tokens, backends and peers by shared secrets.
// [Tokens] verifies the tokens with which browsers, phones and devices connect: those that a [TokenKey] signed, and those of
// somebody else, whose public keys a [KeySet] knows. [Secrets] knows the bearer secrets of the gRPC port and the role of
// each. [Roles] are what a token lets its client do with groups.
//
// # Life
//
// Keys and secrets are loaded once from files at start and never change afterwards. A KeySet is read again until it is
// closed.
//
// # Goroutines and locking
//
// An open KeySet has one goroutine; keySet.mu guards who waits for it. roleTable.mu guards the table by which equal roles
// are one. Neither is held while something else is waited for. Every method may be called concurrently.
//
// # Backpressure
//
// Verify and Identify do work in proportion to what strangers send: the callers bound the size of a
// token (HTTP and gRPC header limits). A stranger can have a KeySet read again, with a key id that nobody knows: once in
// [keySetPause], whoever comes meanwhile is refused at once or waits for the same.
//
// # Errors
//
// [ErrTokenInvalid], [ErrTokenExpired] and [ErrClaimInvalid]; [ErrGrantLimit]. No error and no formatted value of this package
// contains a token, a key or a secret; [TokenKey.AccessKey] alone tells a key.
package auth
