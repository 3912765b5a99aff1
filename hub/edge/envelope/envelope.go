package envelope

import (
	"slices"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/jsonappend"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// Name is the WebSocket subprotocol.
const Name = "json.connhub.v1"

// Protocol is the envelope protocol. The zero value is ready to use.
type Protocol struct{}

var (
	_ edge.Protocol    = Protocol{}
	_ protocol.Greeter = Protocol{}
)

// Name returns Name.
func (Protocol) Name() string { return Name }

// RouteKey returns r: the envelope shows the whole route.
func (Protocol) RouteKey(r hub.Route) hub.Route { return r }

// Receive drops the message and returns nil: clients cannot send events with this protocol yet.
func (Protocol) Receive(*hub.Connection, hub.PayloadKind, []byte) error { return nil }

// AppendGreeting appends the `connected` message.
func (Protocol) AppendGreeting(
	b []byte, info hub.Info, _ string,
) ([]byte, hub.PayloadKind) {
	b = append(b, `{"type":"connected","connectionId":`...)
	b = jsonappend.String(b, string(info.ID))
	b = appendMember(b, `,"user":`, info.User)
	b = append(b, `,"hub":`...)
	b = jsonappend.String(b, string(info.Hub))
	return append(b, '}'), hub.Text
}

// envelopeOverhead is the capacity in bytes that AppendMessage adds to the sizes of the strings and
// the data.
const envelopeOverhead = 256

// AppendMessage appends the message in its envelope.
func (Protocol) AppendMessage(
	dst []byte, m *hub.Message, r hub.Route,
) ([]byte, hub.PayloadKind) {
	size := envelopeOverhead + len(m.ID) + len(m.Event) + len(r.Group) + len(m.Payload)
	if !m.Kind.IsText() {
		size += len(m.Payload) / 3
	}
	return appendEnvelope(slices.Grow(dst, size), m, r), hub.Text
}

func appendEnvelope(b []byte, m *hub.Message, r hub.Route) []byte {
	b = append(b, `{"type":"message","id":`...)
	b = jsonappend.String(b, m.ID)
	b = append(b, `,"route":"`...)
	b = append(b, routeName(r.Kind)...)
	b = append(b, '"')
	if r.Kind == hub.RouteGroup {
		b = append(b, `,"group":`...)
		b = jsonappend.String(b, r.Group)
	}
	b = appendMember(b, `,"event":`, m.Event)
	b = appendSender(b, m.Sender)
	if len(m.Metadata) > 0 {
		b = jsonappend.StringMap(append(b, `,"metadata":`...), m.Metadata)
	}
	b = appendMember(b, `,"traceparent":`, m.TraceParent)
	return append(appendData(b, m), '}')
}

func routeName(k hub.RouteKind) string {
	switch k {
	case hub.RouteConnection:
		return "connection"
	case hub.RouteUser:
		return "user"
	case hub.RouteGroup:
		return "group"
	default:
		return "everyone"
	}
}

func appendSender(b []byte, s hub.Sender) []byte {
	if s == (hub.Sender{}) {
		return b
	}
	b = append(b, `,"from":{"connectionId":`...)
	b = jsonappend.String(b, string(s.Connection))
	return append(appendMember(b, `,"user":`, s.User), '}')
}

func appendData(b []byte, m *hub.Message) []byte {
	switch m.Kind {
	case hub.JSON:
		return append(append(b, `,"dataType":"json","data":`...), m.Payload...)
	case hub.Binary, hub.Protobuf:
		return jsonappend.Base64(append(b, `,"dataType":"binary","data":`...), m.Payload)
	default:
		return jsonappend.String(append(b, `,"dataType":"text","data":`...), m.Payload)
	}
}

// appendMember appends a member of an object unless its value is empty. name must include the
// comma, the quotes and the colon.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return jsonappend.String(append(b, name...), value)
}
