package edge

import (
	"fmt"

	"github.com/connhub/connhub/hub"
)

// Protocol is how clients and hub talk on a link, in both directions: hub.Protocol encodes what goes out,
// Receive takes what comes in. An implementation is shared by all its connections; its methods may run
// concurrently.
type Protocol interface {
	hub.Protocol

	// Receive takes one message of a client: hub.Text, which is UTF-8, or hub.Binary. The messages of one
	// connection come one after the other. payload is only valid during the call. The error *Violation ends
	// the connection as it says; any other error is a fault of the hub and ends it with 1011.
	Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error
}

// Violation is the error of Protocol.Receive for what a client may not send.
type Violation struct {
	Close hub.Close
}

// Error names the cause, and what the client is told.
func (v *Violation) Error() string {
	return fmt.Sprintf("client violates its protocol: %v: %d %s", v.Close.Cause, v.Close.Code, v.Close.Reason)
}
