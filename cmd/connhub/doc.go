// Connhub is the one binary of the project: it runs a hub, and it is the operator's tool for running ones.
//
// Purpose: `connhub serve` and `connhub dev` read the configuration, join hub, edge and control, and take
// them down in order; `send`, `connections`, `groups`, `hubs` and `token` are clients of the gRPC API that
// every backend uses, and have no other way in. Nothing else in the project knows how the parts are joined:
// that is server.go.
//
// Life of a hub process: check the configuration, all of it, before anything else (exit 2) → listen on the
// three ports (exit 1 when one is taken) → serve → "ready" in the log → SIGTERM or SIGINT → /readyz and the
// gRPC health answer no, nothing new is taken, calls in flight get [callGrace] → clients are closed with 1001,
// which ends the waits inside the last calls → exit 0. A second signal exits 1 at once.
//
// Goroutines: one per listener, one that waits for signals, and one that writes the summaries of closed
// connections, because a hub calls its sink under a connection's lock.
//
// Locking: certificate.mu guards the loaded key pair. All else is static after start or atomic.
//
// Backpressure: summaries of closed connections wait in a queue of [closeLogQueue]; beyond it they are
// counted, not kept.
//
// Errors: usage and configuration errors exit 2 and say all that is wrong at once; everything else exits 1
// with one line. What the API answers is turned into words in one place, failure.go.
package main
