// Package chaos has tests alone. They run hubs as in production, break them and the network by a
// schedule, and hold all that clients and backends saw against the promises.
//
// Purpose: faults meet in orders that no author of a test thinks of. A seed makes a schedule: hubs
// are restarted, drained, killed and stopped; members of etcd are lost; links between hubs, to etcd
// and to clients are cut, slow or half-open. Meanwhile backends send numbered messages, join
// connections to groups and close connections, and clients come back at random hubs. Everything is
// recorded, and package verdict judges the record.
//
// A reliable client publishes to its own group. It publishes a message again on its next link, with
// the same ack id, until it has the ack.
//
// A reliable client drops nothing. It records also the messages that Microsoft's client would hide,
// for instance a message that comes twice. It shares no code with the hub.
//
// Life: a run starts three hubs and three members of etcd, and then its clients and callers. After
// the last fault each caller sends a last message to all, and each client must get it. `make chaos
// SEEDS=n SEED=x` runs n schedules from seed x, in a long form. The seed decides the schedule, and
// the choices of each client and caller. It does not decide how they interleave, so a failure may
// need several runs of its seed.
//
// Goroutines: each client and each caller has a goroutine. Joins and kicks have a goroutine each.
// The test's own goroutine carries out the schedule.
//
// Locking: recorder.mu, place.mu, client.mu, clientLink.mu and sendStream.mu are never held
// together, except that a sendStream records under its lock. The order of the record is that of
// recorder.mu.
//
// Backpressure, errors: there is no code but tests.
package chaos
