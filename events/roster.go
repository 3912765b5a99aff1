package events

import "github.com/connhub/connhub/hub"

// roster decides which subscriptions a hub takes, and when it has none left. It is pure, as core
// is: the Broker holds its lock.
type roster struct {
	limit     int
	count     int
	isLeaving bool // the hub leaves; it still takes subscriptions
	isEnding  bool // no subscription is taken any more
}

// admitOne counts a subscription more. Errors: hub.ErrShuttingDown, ErrTooManySubscribers.
func (r *roster) admitOne() error {
	switch {
	case r.isEnding:
		return hub.ErrShuttingDown
	case r.count >= r.limit:
		return ErrTooManySubscribers
	}
	r.count++
	return nil
}

// removeOne counts a subscription less.
func (r *roster) removeOne() { r.count-- }

// isGone reports whether no subscription is left, and none can come.
func (r *roster) isGone() bool { return r.isEnding && r.count == 0 }
