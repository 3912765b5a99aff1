// Connhub is the binary of the project. It runs a hub, and it is the operator's tool for running
// hubs.
//
// Purpose: `connhub serve` and `connhub dev` make a configuration of flags, environment variables
// and a file, check all of it before anything else (exit 2), and run a hub with it: package node.
// `send`, `connections`, `groups`, `permissions`, `events`, `hubs` and `token` are clients of the
// gRPC API that every backend uses, and have no other way in.
//
// Signals: SIGTERM or SIGINT takes a hub down within 10 s, and the exit code is 0. A second signal,
// [secondSignalAfter] or more after the first, exits 1 at once. SIGHUP makes the hub read files
// again. The meanings of signals are in signals.go.
//
// Goroutines: two that wait for signals.
//
// Locking: none.
//
// Errors: errors of usage and configuration exit 2 and list all problems at once. Everything else
// exits 1 with a line.
package main
