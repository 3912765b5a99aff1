package events

import controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"

// streamError is why a stream was ended. The server of the API finds its status by the reason.
type streamError struct {
	text   string
	reason controlv1.ErrorReason
	field  string // of the request, that is wrong
}

// Error implements error.
func (e *streamError) Error() string { return e.text }

// Reason returns the error's reason in the API.
func (e *streamError) Reason() controlv1.ErrorReason { return e.reason }

// Field returns the field of the request that is wrong, if one is.
func (e *streamError) Field() string { return e.field }

// Errors that end a stream, besides hub.ErrShuttingDown.
var (
	// ErrSubscriberSlow: too many events that may not be dropped wait for the subscriber.
	ErrSubscriberSlow error = &streamError{
		text: "events happen faster than they are read", reason: controlv1.ErrorReason_ERROR_REASON_SUBSCRIBER_SLOW,
	}
	// ErrTooManySubscribers: there are Config.MaxSubscribers.
	ErrTooManySubscribers error = &streamError{
		text: "the hub has the most subscribers it may have", reason: controlv1.ErrorReason_ERROR_REASON_TOO_MANY_SUBSCRIBERS,
	}
	// ErrSubscribed: a second request came.
	ErrSubscribed error = &streamError{
		text: "must be set in the first request alone", reason: controlv1.ErrorReason_ERROR_REASON_INVALID_FIELD, field: "subscription",
	}
)
