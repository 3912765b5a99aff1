// Connhub is the binary of the project. It runs a hub, and it is the operator's tool for running
// hubs.
//
// Purpose: `connhub serve` and `connhub dev` read the configuration, join hub, edge and control,
// and take them down in order. `send`, `connections`, `groups`, `permissions`, `events`, `hubs` and
// `token` are clients of the gRPC API that every backend uses, and have no other way in. No other
// package knows how the parts are joined: server.go joins them, with cluster.go for the place of a
// hub in its cluster and etcd.go for the etcd inside `dev`.
//
// Life of a hub process:
//   - Check all of the configuration before anything else (exit 2).
//   - Listen on the three ports (exit 1 if a port is taken), and start etcd with `dev`.
//   - Serve operations and the control port, where peers call.
//   - Join the cluster: wait for etcd without a limit, then until every hub that etcd lists knows
//     this hub. /readyz names what the hub waits for, and backends get UNAVAILABLE. With
//     --single-hub there is no cluster to join.
//   - Serve clients. The log says "ready".
//   - SIGTERM or SIGINT: /readyz and the gRPC health answer no, the peers are told, and the hub
//     takes no new clients and calls. Calls in flight get [callGrace]. Backends that watch events
//     hear that the hub leaves.
//   - Close clients with 1001, within [closeGrace]. That ends the waits inside the last calls.
//   - Tell the peers that this hub holds nothing any more, and remove its key from etcd, within
//     [meshGrace].
//   - End the last calls, within [lastGrace], then the etcd inside the process. Exit 0.
//
// A shutdown takes at most 10 s. A second signal, [secondSignalAfter] or more after the first,
// exits 1 at once.
//
// A hub shuts down in the same order, and exits 1, if etcd holds another cluster. It shuts down in
// the same order, but without waiting for calls, if its peers may have forgotten it or have
// declared it dead. Its clients are closed with 1012 then, and the process begins again as another
// hub, with a new id, on the same ports. In a row of such restarts the hub pauses before it joins
// the cluster (restart.go). SIGHUP makes the hub read files again (reload.go). The meanings of
// signals are in signals.go.
//
// Goroutines: one for each listener, one for the cluster, two that wait for signals, one that reads
// files again, one that writes the log, and one that writes how many lines the log left out.
//
// Locking: certificate.mu guards the loaded key pair, logRates.mu the counts of lines, logWriter.mu
// the queued lines. The locks of the log are the innermost of all: a hub calls its observers, which
// log, under a connection's lock. Everything else is static after the start, or atomic.
//
// Backpressure: the log never blocks its callers. It writes [logLinesPerWindow] lines of a cause in
// a second, and counts the rest in a single line. The queue for the log's reader is bounded
// ([logQueueBytes], [logQueueLines]). A line that finds no room, or that can't be written, is lost
// and counted.
//
// Errors: errors of usage and configuration exit 2 and list all problems at once. Everything else
// exits 1 with a line. failure.go alone turns errors of the API into words.
package main
