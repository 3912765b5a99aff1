package stream

import (
	"errors"

	"github.com/connhub/connhub/events"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// streamError is why a stream was ended. The server of the API finds its status by the reason.
type streamError struct {
	text   string
	reason controlv1.ErrorReason
	field  string // of the request, if that is wrong
	cause  error  // the sentinel of events; nil: the stream's own
}

// Error implements error.
func (e *streamError) Error() string { return e.text }

// Unwrap returns the error of events that ended the stream, if there is one.
func (e *streamError) Unwrap() error { return e.cause }

// Reason returns the error's reason in the API.
func (e *streamError) Reason() controlv1.ErrorReason { return e.reason }

// Field returns the field of the request that is wrong, or "".
func (e *streamError) Field() string { return e.field }

// ErrSubscribed ends a stream on which a second request came.
var ErrSubscribed error = &streamError{
	text:   "must be set in the first request alone",
	reason: controlv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
	field:  "subscription",
}

// reasons has the reason in the API for each error of events. hub.ErrShuttingDown is not there: the
// server of the API knows the errors of the hub.
var reasons = map[error]controlv1.ErrorReason{
	events.ErrSubscriberSlow:     controlv1.ErrorReason_ERROR_REASON_SUBSCRIBER_SLOW,
	events.ErrTooManySubscribers: controlv1.ErrorReason_ERROR_REASON_TOO_MANY_SUBSCRIBERS,
}

// withReason returns err with its reason in the API, if it is an error of events.
func withReason(err error) error {
	for sentinel, reason := range reasons {
		if errors.Is(err, sentinel) {
			return &streamError{text: err.Error(), reason: reason, cause: sentinel}
		}
	}
	return err
}
