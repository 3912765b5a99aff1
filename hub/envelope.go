package hub

import "time"

// Envelope is a message on its way, encoded for one protocol and one route. The outboxes of all
// connections that get this encoding share it. Immutable.
type Envelope struct {
	// Message is shared by all its envelopes.
	Message *Message
	// Route is the key that Protocol.RouteKey returned.
	Route Route

	// ConflationKey is empty if the message has none.
	ConflationKey string

	// shared holds the bytes that Protocol.Encode returned.
	shared []byte
	// tally counts the message's fate.
	tally *tally
}

// payloadSize is the message's size in the bounds of outboxes and windows: its payload, which a
// sender can compute. Holdings counts the memory that it takes with all its forms.
func (e *Envelope) payloadSize() int64 { return int64(len(e.Message.Payload)) }

func (e *Envelope) isExpired() bool {
	return !e.Message.Expires.IsZero() && !time.Now().Before(e.Message.Expires)
}
