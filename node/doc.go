// Package node is the process of a hub: it joins hub, edge, control and events on three ports,
// takes them down in order, and goes on as another hub if that is needed. No other package knows
// how the parts are joined: server.go joins them, with cluster.go for the place of a hub in its
// cluster and etcd.go for the etcd inside `dev`.
//
// The rooms below it each have a part of the process: logging, ops (the operations port), console
// (the page of `dev`), limits (memory and file descriptors), certificate.
//
// Life of a hub process, after its configuration was checked:
//   - Listen on the three ports, and start etcd with `dev`: [New].
//   - Serve operations and the control port, where peers call: [Node.Run].
//   - Join the cluster: wait for etcd without a limit, then until every hub that etcd lists knows
//     this hub. /readyz names the cause of the wait, and backends get UNAVAILABLE. Without a
//     [ClusterConfig] there is no cluster to join.
//   - Serve clients. The log says "ready".
//   - The context of Run ends, and the drain begins: /readyz and the gRPC health answer no, and the
//     peers are told. The hub serves on for [DrainConfig].Delay, so that balancers notice.
//   - The hub takes no new clients and calls. Calls in flight get [callGrace]. Backends that watch
//     events hear that the hub leaves.
//   - Move resumable connections to the peers. Meanwhile close the other clients with 1001, spread
//     over [DrainConfig].Period. Peers still send to the rest. At the end wait until the moves are
//     over, within [moveGrace].
//   - Wait for the ends of the clients, within [closeGrace]. That ends the waits inside the last
//     calls.
//   - Tell the peers that this hub holds nothing any more, and remove its key from etcd, within
//     [meshGrace].
//   - End the last calls, within [lastGrace], then the etcd inside the process.
//
// A shutdown takes at most 10 s after the drain. A hub without delay and period has no drain.
//
// A hub shuts down in the same order without a drain, and Run returns an error, if etcd holds
// another cluster. It shuts down without a drain and without waiting for calls if its peers may
// have forgotten it or have declared it dead. Its clients are closed with 1012 then, and the
// process begins again as another hub, with a new id, on the same ports. In a row of such restarts
// the hub pauses before it joins the cluster (restart.go). Config.Reloads makes the hub read files
// again (reload.go).
//
// Goroutines: one for each listener, one for the cluster, and one that reads files again.
//
// Locking: all fields are static after New, or atomic.
package node
