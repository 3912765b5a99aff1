// Package discovery lets the hubs of a cluster find each other. Each hub writes a description of
// itself into etcd and watches the descriptions of its peers. Etcd holds hubs, never connections,
// so its load is a few writes a minute for any number of clients.
//
// # Life of a registration
//
// Registry.Register creates the hub's key under a lease and keeps the lease alive. The key can get
// lost: by a long pause of the process, by a restart of etcd or the loss of its data, by an
// operator. The Registry notices that and registers the hub again with the same id, unless a peer
// declared the id dead meanwhile; then Registry.Dead is closed. Registry.Deregister deletes the key
// at once. Without it, the key goes when its lease ends.
//
// Beside the key stands a mark, under a lease of an hour. The mark outlasts an outage of etcd that
// ends the leases of all keys. A hub that starts during such an outage finds no key, but it finds
// its peers by their marks (Snapshot.Lapsed). A killed hub leaves its mark as well; peers that know
// that the hub is gone delete the mark (Registry.StrikeOff). Hubs of older versions write and read
// no marks.
//
// Registry.DeclareDead ends a hub that is not listed. If several hubs declare the same hub dead, a
// single hub wins. Registrations and declarations are single transactions of etcd, so a hub is
// never listed and dead at the same time. No code calls DeclareDead yet; taking over the
// connections of a dead hub will.
//
// # Life of a snapshot
//
// The follower reads all keys and marks in a single transaction and shows them to the watchers.
// Then it shows each later change. If its watch breaks, falls silent or is cancelled, the follower
// reads everything again. While etcd can't be reached, the last Snapshot stays valid.
// Registry.StaleFor returns its age: 0 while the watch is open and answers. Answers to a renewal of
// a lease do not count, because they do not show missed changes.
//
// # The cluster's id
//
// The first hub of a cluster draws the id. A Registry never accepts a change of it:
// ErrForeignCluster. If etcd loses its data, the first hub that reconnects writes the id again. If
// a new hub writes first, it founds a new cluster there, and the old hubs stay out until the new id
// is deleted. Declarations of death get lost with the data.
//
// # Goroutines
//
//   - The follower, from New to Close.
//   - The registration, from Register to Deregister or Close.
//   - A goroutine that asks an open watch for its progress. The follower waits for it.
//
// Registry.Close waits for all.
//
// # Locking
//
// Registry.mu and board.mu are leaves: no code takes a lock while it holds either. Access to etcd's
// client is serialized, because a login with a password may take up to DialTimeout; a wait for the
// client ends with the caller's context. The fields of a registration and of the follower name
// their owners.
//
// # Backpressure
//
// A Watcher holds only the latest Snapshot, so a slow reader costs nothing. Each call to etcd is
// bounded by DialTimeout. Attempts are spaced out, with jitter.
//
// # Errors
//
// The sentinels are in errors.go. A method returns the errors of the call that it made. Errors that
// the goroutines meet are counted and logged by their cause (causes.go), each cause at most once a
// minute. A token of etcd that has expired counts as a failure only if the next attempt, with a new
// login, fails too.
package discovery
