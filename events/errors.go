package events

import "errors"

// Errors with which a subscription is refused or ends, besides hub.ErrShuttingDown.
var (
	// ErrSubscriberSlow: too many events that may not be dropped wait for the subscriber.
	ErrSubscriberSlow = errors.New("events happen faster than they are read")
	// ErrTooManySubscribers: there are Config.MaxSubscribers.
	ErrTooManySubscribers = errors.New("the hub has the most subscribers it may have")
)
