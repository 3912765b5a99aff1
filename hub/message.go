package hub

import (
	"time"

	"github.com/connhub/connhub/internal/names"
)

// Limits that are part of the API. Comments of the protos name the same numbers.
const (
	// MaxGroups is the most groups that one connection may be in.
	MaxGroups = 128
	// MaxPayload is the most bytes of a payload.
	MaxPayload = 1 << 20
	// MaxName is the most bytes of a user, group, event or message id.
	MaxName = names.MaxBytes
)

// DefaultNamespace is the namespace of callers and clients that name none.
const DefaultNamespace = "default"

// PayloadKind says how to read the bytes of a payload.
type PayloadKind uint8

const (
	// Text is UTF-8.
	Text PayloadKind = iota + 1
	// JSON is one JSON value, valid as it stands.
	JSON
	// Binary is any bytes.
	Binary
	// Protobuf is any bytes. Their sender says that they are a google.protobuf.Any.
	Protobuf
)

// IsText reports whether a payload of this kind is UTF-8.
func (k PayloadKind) IsText() bool { return k == Text || k == JSON }

// Sender names the client that sent a message. A backend's message has the zero Sender.
type Sender struct {
	// Connection is the client's connection.
	Connection ConnectionID
	// User is the client's user; empty: anonymous.
	User string
}

// Message is sent to clients. It must not change once the hub has it: all connections share it.
type Message struct {
	// ID is set by Deliver if it is empty.
	ID string
	// Namespace is that of the target.
	Namespace string
	// Event is the event's name that the client sees; may be empty.
	Event string
	// Kind is that of Payload.
	Kind PayloadKind
	// Payload has MaxPayload bytes at most. The caller has checked that it is UTF-8 for Text and
	// valid JSON for JSON.
	Payload []byte
	// Sender is the client that sent the message.
	Sender Sender
	// Metadata goes to the client with the message.
	Metadata map[string]string
	// Expires is when the hub drops the message if it still waits in a queue; zero: never.
	Expires time.Time
	// TraceParent is that of the send (W3C Trace Context §3.2); may be empty.
	TraceParent string
}
