// Package certificate has key pairs in files that may be replaced while the hub runs.
//
// Locking: Pair.mu guards the loaded pair. It is held while the files are read, at most once in
// [certificateCheck] and only during a handshake or a [Pair.Reload].
package certificate
