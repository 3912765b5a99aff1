package hub

import "time"

// Envelope is a message on its way: encoded for one protocol and one route, and shared by the outboxes of
// all connections to which it goes in that form. Immutable.
type Envelope struct {
	Message *Message // shared by all forms of it
	Route   Route    // the key that Protocol.RouteKey returned

	ConflationKey string // empty: none

	shared []byte // what Protocol.Encode returned
	tally  *tally // where its fate is counted
}

// size is what the message takes in the bounds of outboxes and windows: its payload, which is what a sender can compute. What it takes
// in memory, with all its forms, is counted by holdings.
func (e *Envelope) payloadSize() int64 { return int64(len(e.Message.Payload)) }

func (e *Envelope) isExpired() bool {
	return !e.Message.Expires.IsZero() && !time.Now().Before(e.Message.Expires)
}
