// Package discovery is how hubs find each other: each writes what it is into etcd, and watches what the others
// write. It holds hubs, never connections, so etcd sees a few writes a minute whatever the number of clients.
//
// # Life of a registration
//
// Registry.Register creates the hub's key under a lease and keeps the lease alive. Whatever takes the key away (a
// long pause of the process, etcd restarted or emptied, an operator) is noticed, and the hub is registered again with
// the same id; unless others have declared the id dead meanwhile, which Registry.Dead tells. Registry.Deregister
// deletes the key at once; without it the key goes with its lease.
//
// Beside the key stands a mark, under a lease of an hour. The mark outlasts an outage of etcd that
// ends the lease of every key at once. A hub that starts just then finds no key, and by the marks
// it finds the hubs all the same (Snapshot.Lapsed). A hub that was killed leaves its mark as well.
// The hubs that know that it is gone have the mark deleted (Registry.StrikeOff). Hubs of older
// versions have no mark, and take no notice of those of others.
//
// Registry.DeclareDead is the other end of a hub: for a hub that is not listed, one declarer wins. Both are decided
// in single transactions of etcd, so that a hub is never listed and dead at once. Nobody declares yet: taking over the
// connections of a dead hub will.
//
// # Life of a snapshot
//
// The follower reads everything, keys and marks, in one transaction, shows it to the watchers, and
// then each later change. When its watch breaks, falls silent or is cancelled, it begins again with
// everything. While etcd is away the last Snapshot stands, and Registry.StaleFor says how old it
// is: 0 while the watch is open and answers. Answers to the lease don't count: they say nothing
// about changes that were missed.
//
// # The cluster's id
//
// The first hub draws it, and a Registry never takes another one for it: ErrForeignCluster. An etcd that was emptied
// gets it back from the first hub that returns. A new hub that is quicker makes a new cluster there, and the
// others stay out until that key is deleted. What was declared dead in it is forgotten.
//
// # Goroutines
//
// One follows etcd from New on, one keeps the registration, and one asks an open watch for its progress; who starts
// a goroutine waits for it, Registry.Close for all.
//
// # Locking
//
// Registry.mu and board.mu are leaves: none is held while another is taken. Who wants etcd's client waits for its turn,
// while a client with a password logs in for at most DialTimeout; the wait ends with the caller's context. What a
// registration and the follower own besides is said at their fields.
//
// # Backpressure
//
// A Watcher holds the latest Snapshot and no other, so a slow reader costs nothing. Each call of etcd is
// bounded by DialTimeout; attempts are spaced out, with jitter.
//
// # Errors
//
// The sentinels in errors.go. What a caller started it gets returned; what the goroutines meet is counted, and logged by its
// cause: what etcd says by its text, each once a minute at most (causes.go). A token of etcd that has run out is no failure
// when the next try logs in anew.
package discovery
