// Connhub is the one binary of the project: it runs a hub, and it is the operator's tool for running ones.
//
// Purpose: `connhub serve` and `connhub dev` read the configuration, join hub, edge and control, and take
// them down in order; `send`, `connections`, `groups`, `permissions`, `events`, `hubs` and `token` are clients of the gRPC API that
// every backend uses, and have no other way in. Nothing else in the project knows how the parts are joined:
// that is server.go, with cluster.go for a hub's place among others and etcd.go for the etcd inside `dev`.
//
// Life of a hub process: check the configuration, all of it, before anything else (exit 2) → listen on the
// three ports (exit 1 when one is taken), and with `dev` start etcd → serve operations and the control port, where
// other hubs call → join the cluster: wait for etcd as long as it takes, then for every hub that it lists to know
// this one; /readyz says what is waited for, backends get UNAVAILABLE → serve clients, "ready" in the log →
// SIGTERM or SIGINT → /readyz and the gRPC health answer no, the other hubs are told, nothing new is taken, calls in
// flight get [callGrace], backends that watch events hear that the hub goes → clients are closed with 1001, which ends the waits inside the last calls, within
// [closeGrace] → the other hubs hear that this one holds nothing any more, and its key in etcd goes, within [meshGrace]
// → the last calls end, within [lastGrace] → etcd, where it is inside → exit 0. That is 10 s at most. A second signal,
// [secondSignalAfter] or more after the first, exits 1 at once. A hub that is the only one (--single-hub) joins nobody. A hub that can't be in its cluster any more,
// because etcd holds another cluster, shuts down in the same order and exits 1. A hub that the others may have forgotten, or have
// declared dead, shuts down in the same order too, without waiting for calls; its clients are closed with 1012. The process
// then begins again as another hub, with a new id, on the same ports; in a row of such restarts that hub
// pauses before it joins the cluster (restart.go). SIGHUP has the files read again that can be
// (reload.go); signals.go has what else signals mean.
//
// Goroutines: one per listener, one that takes part in the cluster, two that wait for signals, one that reads files again,
// one that writes the log, and one that writes how many lines were left out of it.
//
// Locking: certificate.mu guards the loaded key pair, logRates.mu the counts of lines, logWriter.mu the lines that wait. The
// log's are the innermost of all: a hub calls its observers, which log, under a connection's lock. All else is static after
// start or atomic.
//
// Backpressure: the log keeps nobody waiting. Of one cause [logLinesPerWindow] lines are written a second; the rest is
// counted in one line. What waits for the log's reader is bounded ([logQueueBytes], [logQueueLines]); beyond it, and when a
// line can't be written, the line is lost and counted.
//
// Errors: usage and configuration errors exit 2 and say all that is wrong at once; everything else exits 1
// with one line. What the API answers is turned into words in one place, failure.go.
package main
