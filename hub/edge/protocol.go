package edge

import (
	"context"
	"fmt"
	"net/url"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// Protocol is how clients and hub talk on a link, in both directions: hub.Protocol encodes what goes out,
// Receive takes what comes in. An implementation is shared by all its connections; its methods may run
// concurrently.
type Protocol interface {
	hub.Protocol

	// Receive takes one message of a client: hub.Text, which is UTF-8, or hub.Binary. The messages of one
	// client come one after the other, also when it takes its connection to another link. payload is only valid during the call. The error *Violation ends
	// the connection as it says. *Rejection is counted, and the connection goes on. Any other error is a fault of the hub and ends the
	// connection with 1011.
	Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error
}

// Resumable is a Protocol whose clients say in the query of their URL which connection they want back.
type Resumable interface {
	// Resumes returns the connection's id and the token that the client was greeted with; ok is false for a client that is new.
	Resumes(query url.Values) (id, token string, ok bool)
}

// Configurable is a Protocol that its clients configure in the query of their URL.
type Configurable interface {
	// Configure returns what the connection keeps as hub.Claims.Private. An error refuses the client, with its text.
	Configure(query url.Values) (private string, err error)
}

// Wrapper is a Protocol whose clients send payloads in something larger, as JSON does.
type Wrapper interface {
	// WithMaxPayload returns the protocol with a limit for payloads, in bytes when they are decoded. A message whose payload is longer
	// is a Violation, TooBig.
	WithMaxPayload(bytes int64) Protocol
	// MaxWire returns how many bytes a message of the longest payload may have, wrapped.
	MaxWire() int64
}

// Goodbye is a Protocol whose clients are told why the hub closes them, besides the close frame. (Not those who break RFC 6455, or
// whose message is too big.)
type Goodbye interface {
	// AppendGoodbye appends to dst what a link carries right in front of the close frame.
	AppendGoodbye(dst []byte, how cause.CloseStatus) []byte
}

// Publisher brings what a client sends to others, at whatever hub they are.
type Publisher interface {
	// Publish returns when this hub has accepted the message: it is in the outbox of everybody here, and in line for the other hubs. It may
	// wait for these, but not long. What one client sends arrives in order. Errors: hub.ErrShuttingDown, that of ctx.
	Publish(ctx context.Context, s *hub.Send) error
}

// Violation is the error of Protocol.Receive for what a client may not send.
type Violation struct {
	Close cause.CloseStatus
}

// Error names the cause, and what the client is told.
func (v *Violation) Error() string {
	return fmt.Sprintf("client violates its protocol: %v: %d %s", v.Close.Cause, v.Close.Code, v.Close.Reason)
}
