package edge

import (
	"context"
	"fmt"
	"net/url"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// Protocol is the language of clients and hub on a link. protocol.Protocol yields the messages to
// clients, and Receive takes the messages of clients. All connections of a protocol share an
// implementation. Its methods may run concurrently.
type Protocol interface {
	protocol.Protocol

	// Receive takes a message of a client: hub.Text, which is UTF-8, or hub.Binary. Calls for the
	// same client never run concurrently, even when it takes its connection to a new link. payload
	// is only valid during the call.
	//
	// Errors:
	//   - *Violation ends the connection with its Close.
	//   - *Rejection is counted, and the connection goes on.
	//   - Any further error is a fault of the hub and ends the connection with 1011.
	Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error
}

// Resumable is a Protocol whose clients name the connection that they want back in the query of
// their URL.
type Resumable interface {
	// Resumes returns the connection's id and the token of the client's greeting. ok is false for a
	// new client.
	Resumes(query url.Values) (id, token string, ok bool)
}

// Configurable is a Protocol that its clients configure in the query of their URL.
type Configurable interface {
	// Configure returns the text that the connection keeps as hub.Claims.Private. An error refuses
	// the client, with the error's text.
	Configure(query url.Values) (private string, err error)
}

// Wrapper is a Protocol whose clients send payloads inside a larger text, like JSON.
type Wrapper interface {
	// WithMaxPayload returns the protocol with a limit for payloads, in decoded bytes. A message
	// with a longer payload is a Violation, TooBig.
	WithMaxPayload(bytes int64) Protocol
	// MaxWire returns the most bytes of a message with a payload of that limit, as it comes on the
	// wire.
	MaxWire() int64
}

// Publisher delivers messages of clients to connections at all hubs.
type Publisher interface {
	// Publish returns when this hub has accepted the message: it is in the outbox of each local
	// receiver, and in line for the peers. It may wait for slow peers, but not long. Messages of a
	// client arrive in order. Errors: hub.ErrShuttingDown, or the error of ctx.
	Publish(ctx context.Context, s *hub.Send) error
}

// Violation is the error of Protocol.Receive for a message that a client may not send.
type Violation struct {
	// Close is how the connection ends.
	Close cause.CloseStatus
}

// Error names the cause, and the code and reason of the close frame.
func (v *Violation) Error() string {
	return fmt.Sprintf("client violates its protocol: %v: %d %s", v.Close.Cause, v.Close.Code,
		v.Close.Reason)
}
