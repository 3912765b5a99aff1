package hub

import (
	"context"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Interest tells the hubs of a cluster which users, groups and namespaces this hub has, so that
// they know which sends to forward to it. Its methods may be called concurrently.
//
// Each connection takes a reference to its namespace (RouteEveryone), to its user and to each of
// its groups when they begin. It gives them back when they end. A connection that was born at a
// different hub takes a reference to its id, too (RouteConnection).
//
// While a connection moves, both hubs have the references: the new hub from Moves.Adopt on, the old
// hub until Moves.Release.
type Interest interface {
	// Add takes a reference. A hub that asks this hub because of it must find the connection: it is
	// in the tables already, or a shadow, and then the call waits for the end of the move. Add is
	// called under the connection's lock: it must be quick, and not call back.
	Add(Key)
	// Remove gives a reference back. The rules of Add hold.
	Remove(Key)
	// ThenInForce calls done once, with nil as soon as every send that begins from then on, at any
	// hub, reaches this hub if it is for one of the keys. The hub has references to all of them.
	// That takes 500 ms at most. It calls done with ErrShuttingDown when this hub has left the
	// cluster.
	//
	// It calls done at once, or from the goroutine that finds out, which may hold locks: done must
	// be quick, must not wait, and must not call the Interest. forget cancels the call. A call of
	// done that is under way may still come to its end.
	ThenInForce(keys []Key, done func(error)) (forget func())
}

// Key names the object of a reference: a user, a group, a connection, or a whole namespace.
type Key struct {
	// Kind is RouteUser, RouteGroup, RouteConnection or RouteEveryone.
	Kind RouteKind
	// Namespace is that of the user, group or connection, or the whole of it.
	Namespace string
	// Name is empty for RouteEveryone.
	Name string
}

// soloInterest is the Interest of a hub without a cluster.
type soloInterest struct{}

var _ Interest = soloInterest{}

// Add implements Interest.
func (soloInterest) Add(Key) {}

// Remove implements Interest.
func (soloInterest) Remove(Key) {}

// ThenInForce implements Interest.
func (soloInterest) ThenInForce(_ []Key, done func(error)) (forget func()) {
	done(nil)
	return func() {}
}

// countedInterest is the Interest of a hub. It keeps a checksum of all references that the hub has,
// so that a lost or doubled reference is found (CheckAtRest).
type countedInterest struct {
	Interest // static

	sum atomic.Uint64 // of the checksums of the keys, for each reference
}

// Add implements Interest.
func (i *countedInterest) Add(k Key) {
	i.sum.Add(k.checksum())
	i.Interest.Add(k)
}

// Remove implements Interest.
func (i *countedInterest) Remove(k Key) {
	i.sum.Add(-k.checksum())
	i.Interest.Remove(k)
}

func (i *countedInterest) addKeys(keys []Key) {
	for _, k := range keys {
		i.Add(k)
	}
}

func (i *countedInterest) removeKeys(keys []Key) {
	for _, k := range keys {
		i.Remove(k)
	}
}

func (k Key) checksum() uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(k.Kind))
	_, _ = d.WriteString(k.Namespace) // a Digest accepts all input
	_, _ = d.WriteString("\x00")
	_, _ = d.WriteString(k.Name)
	return d.Sum64()
}

// awaitInForce waits until the keys are in force. It returns ErrShuttingDown when this hub has left
// the cluster, or the error of ctx if it has to wait. It calls ctx.Done only then, which starts a
// goroutine in the context of a client.
func (h *Hub) awaitInForce(ctx context.Context, keys []Key) error {
	outcome := make(chan error, 1)
	forget := h.interest.ThenInForce(keys, func(err error) { outcome <- err })
	if len(outcome) > 0 { // as a rule there is nothing to wait for
		return <-outcome
	}
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		forget()
		return ctx.Err()
	}
}

// keysOf returns the keys that a connection in these groups has references to.
func (h *Hub) keysOf(who *Identity, groups []string) []Key {
	keys := groupKeys(who.Namespace, groups)
	keys = append(keys, Key{RouteEveryone, who.Namespace, ""})
	if who.User != "" {
		keys = append(keys, Key{RouteUser, who.Namespace, who.User})
	}
	if !who.ID.isBornAt(h.config.ID) {
		keys = append(keys, Key{RouteConnection, who.Namespace, string(who.ID)})
	}
	return keys
}

func groupKeys(namespace string, groups []string) []Key {
	keys := make([]Key, len(groups), len(groups)+3)
	for i, g := range groups {
		keys[i] = Key{RouteGroup, namespace, g}
	}
	return keys
}
