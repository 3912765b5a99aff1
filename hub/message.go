package hub

import (
	"time"

	"github.com/connhub/connhub/internal/names"
)

// Limits that are part of the API (proto comments name the same numbers).
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

// PayloadKind says what the bytes of a payload are.
type PayloadKind uint8

const (
	// Text is UTF-8.
	Text PayloadKind = iota + 1
	// JSON is one JSON value, valid as it stands.
	JSON
	// Binary is any bytes.
	Binary
	// Protobuf is any bytes, of which their sender says that they are a google.protobuf.Any.
	Protobuf
)

// IsText reports whether a payload of this kind is UTF-8.
func (k PayloadKind) IsText() bool { return k == Text || k == JSON }

// Sender is who sent a message. A backend's message has the zero Sender.
type Sender struct {
	Connection ConnectionID
	User       string
}

// Message is what is sent to clients. It must not change once it is handed to the hub: all
// connections share it.
type Message struct {
	ID          string // empty: Deliver gives it one
	Namespace   string
	Event       string
	Kind        PayloadKind
	Payload     []byte // checked by the caller: UTF-8 for Text, valid JSON for JSON, at most MaxPayload
	Sender      Sender
	Metadata    map[string]string
	Expires     time.Time // zero: never
	TraceParent string    // of the send (W3C Trace Context §3.2); may be empty
}
