package protocol

import (
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// Protocol yields the messages to clients. Each message is hub.Text, which is UTF-8, or hub.Binary.
// hub.JSON counts as text, and hub.Protobuf as binary.
type Protocol interface {
	// Name is the protocol's name in the API, in metrics and in logs: the WebSocket subprotocol, or
	// "plain".
	Name() string

	// RouteKey maps a route to the key of all routes for which AppendMessage yields the same. See
	// hub.Protocol.
	RouteKey(hub.Route) hub.Route

	// AppendMessage appends m to dst as clients see it, and returns its kind. r is a route that
	// RouteKey returned. dst may have no room, and then AppendMessage should allocate only once.
	AppendMessage(dst []byte, m *hub.Message, r hub.Route) ([]byte, hub.PayloadKind)
}

// Greeter is a Protocol whose links carry a greeting first.
type Greeter interface {
	// AppendGreeting appends the greeting to dst, and returns its kind. The client of a Numbered
	// protocol must show token to resume after this link. For other protocols token is empty.
	AppendGreeting(dst []byte, info hub.Info, token string) ([]byte, hub.PayloadKind)
}

// Numbered is a Protocol whose messages show a sequence id and whose clients confirm them. See
// hub.Numbered. AppendMessage yields the part of a message that all connections share.
type Numbered interface {
	Protocol
	Greeter

	// Numbering returns the part of a message that belongs to a single connection. It is always the
	// same.
	Numbering() Numbering
}

// Numbering is the beginning of a message of a Numbered protocol, in front of its shared part:
// Before, the sequence id in decimal, After. These are values and not a method, because a framing
// writes them for each message of each connection.
type Numbering struct {
	// Kind is that of all messages of the protocol.
	Kind hub.PayloadKind
	// Before and After stand around the sequence id.
	Before, After string
}

// Goodbye is a Protocol that tells its clients the reason of a close before the link ends. It does
// not tell clients that break the rules of the link, or whose message is too big.
type Goodbye interface {
	// AppendGoodbye appends to dst the message that comes last, and returns its kind.
	AppendGoodbye(dst []byte, how cause.CloseStatus) ([]byte, hub.PayloadKind)
}
