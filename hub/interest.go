package hub

import "context"

// Interest is how a hub makes known whom it has, so that the other hubs of a cluster know what to send it. Its
// methods may be called concurrently.
//
// Each connection takes one reference to its namespace (RouteEveryone), one to its user and one to each of its groups
// when they begin, and gives them back when they end.
type Interest interface {
	// Add takes a reference. Whoever asks this hub because of it must find the connection: it is in the tables
	// already. Called under the connection's lock: it must be quick, and not call back.
	Add(Key)
	// Remove gives one back; as Add.
	Remove(Key)
	// ThenInForce calls done once, when every send that begins from then on, at whatever hub, comes here if it is for
	// one of the keys, to all of which there are references. That takes 500 ms at most. Or it calls done with
	// ErrShuttingDown, when this hub has left the others. It calls done at once or from the goroutine that finds out,
	// which may hold locks: done must be quick, must not wait, and must not call the Interest. forget calls it off; a call
	// of done that is under way may still come to its end.
	ThenInForce(keys []Key, done func(error)) (forget func())
}

// Key is what a reference is to: a user, a group, or a whole namespace.
type Key struct {
	Kind      RouteKind // RouteUser, RouteGroup, RouteEveryone
	Namespace string
	Name      string // empty for RouteEveryone
}

// alone is the Interest of a hub without others.
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

// inForce waits until the keys are in force. Errors: that of ctx; ErrShuttingDown when this hub has left the others.
func (h *Hub) awaitInForce(ctx context.Context, keys []Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	outcome := make(chan error, 1)
	forget := h.interest.ThenInForce(keys, func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		forget()
		return ctx.Err()
	}
}

// keysOf returns what a connection that was let in has references to from the start.
func keysOf(a *Admission, groups []string) []Key {
	keys := groupKeys(a.Namespace, groups)
	keys = append(keys, Key{RouteEveryone, a.Namespace, ""})
	if a.User != "" {
		keys = append(keys, Key{RouteUser, a.Namespace, a.User})
	}
	return keys
}

func groupKeys(namespace string, groups []string) []Key {
	keys := make([]Key, len(groups), len(groups)+2)
	for i, g := range groups {
		keys[i] = Key{RouteGroup, namespace, g}
	}
	return keys
}
