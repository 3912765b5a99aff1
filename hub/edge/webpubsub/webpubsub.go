package webpubsub

import (
	"net/url"
	"slices"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/jsonappend"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// Names of the WebSocket subprotocols.
const (
	NameJSON         = "json.webpubsub.azure.v1"
	NameReliableJSON = "json.reliable.webpubsub.azure.v1"
)

// JSON is the subprotocol without sequence ids. Messages that are lost with a link are not sent
// again.
type JSON struct {
	// Publisher delivers the messages that clients send to groups. It is required and must be of a
	// comparable type, such as a pointer.
	Publisher edge.Publisher

	maxPayload int64 // bytes, decoded; 0: hub.MaxPayload
}

// ReliableJSON is the subprotocol with sequence ids. Its clients confirm messages and can resume
// their connections after the loss of a link.
type ReliableJSON struct{ JSON }

var (
	_ edge.Protocol     = JSON{}
	_ edge.Resumable    = JSON{}
	_ edge.Wrapper      = JSON{}
	_ protocol.Goodbye  = JSON{}
	_ protocol.Greeter  = JSON{}
	_ edge.Protocol     = ReliableJSON{}
	_ edge.Resumable    = ReliableJSON{}
	_ edge.Wrapper      = ReliableJSON{}
	_ protocol.Goodbye  = ReliableJSON{}
	_ protocol.Numbered = ReliableJSON{}
)

// Protocols returns both subprotocols.
func Protocols(p edge.Publisher) []edge.Protocol {
	return []edge.Protocol{ReliableJSON{JSON{Publisher: p}}, JSON{Publisher: p}}
}

// Name returns NameJSON.
func (JSON) Name() string { return NameJSON }

// Name returns NameReliableJSON.
func (ReliableJSON) Name() string { return NameReliableJSON }

// WithMaxPayload returns the protocol with a limit for the data of commands.
func (p JSON) WithMaxPayload(bytes int64) edge.Protocol {
	p.maxPayload = bytes
	return p
}

// WithMaxPayload returns the protocol with a limit for the data of commands.
func (p ReliableJSON) WithMaxPayload(bytes int64) edge.Protocol {
	p.maxPayload = bytes
	return p
}

const (
	// longestEscape is the most bytes that a JSON string needs for a byte of data: `\u0001`. Base64
	// needs less.
	longestEscape = 6
	// commandOverhead is the room for a command without its data: names and 8 KiB of metadata, in
	// which each byte may be escaped.
	commandOverhead = 64 << 10
)

// MaxWire returns the limit of a command on the wire, in bytes: that of the longest data, all
// escaped.
func (p JSON) MaxWire() int64 { return longestEscape*p.payloadLimit() + commandOverhead }

func (p JSON) payloadLimit() int64 {
	if p.maxPayload == 0 {
		return hub.MaxPayload
	}
	return p.maxPayload
}

// Names in the query of a client that resumes its connection.
const (
	queryConnection = "awps_connection_id"
	queryToken      = "awps_reconnection_token"
)

// Resumes returns the connection id and the reconnection token in the query. ok is true if the
// query has a connection id. Then the client must get that connection or be refused, also with
// JSON, which has no resumable connections: a new connection would lose messages unnoticed.
func (JSON) Resumes(query url.Values) (id, token string, ok bool) {
	return query.Get(queryConnection), query.Get(queryToken), query.Has(queryConnection)
}

// RouteKey returns r for a group, and the same key for all further routes: their messages are
// "from" the server.
func (JSON) RouteKey(r hub.Route) hub.Route {
	if r.Kind != hub.RouteGroup {
		return hub.Route{}
	}
	return r
}

// overhead is the room for a message without its strings and data, in bytes.
const overhead = 256

// AppendMessage appends the message.
func (JSON) AppendMessage(
	dst []byte, m *hub.Message, r hub.Route,
) ([]byte, hub.PayloadKind) {
	dst = append(slices.Grow(dst, 1+estimateSize(m, r)), '{')
	return appendMembers(dst, m, r), hub.Text
}

// AppendMessage appends the part of the message that all connections share: all behind the sequence
// id.
func (ReliableJSON) AppendMessage(
	dst []byte, m *hub.Message, r hub.Route,
) ([]byte, hub.PayloadKind) {
	return appendMembers(slices.Grow(dst, estimateSize(m, r)), m, r), hub.Text
}

// Numbering returns the first member of each message, the sequence id.
func (ReliableJSON) Numbering() protocol.Numbering {
	return protocol.Numbering{Kind: hub.Text, Before: `{"sequenceId":`, After: ","}
}

func estimateSize(m *hub.Message, r hub.Route) int {
	n := overhead + len(r.Group) + len(m.Sender.User) + len(m.Payload)
	if !m.Kind.IsText() {
		n += len(m.Payload) / 3
	}
	return n
}

// appendMembers appends a message without its opening brace.
func appendMembers(b []byte, m *hub.Message, r hub.Route) []byte {
	if r.Kind == hub.RouteGroup {
		b = jsonappend.String(append(b, `"type":"message","from":"group","group":`...), r.Group)
		if m.Sender.User != "" {
			b = jsonappend.String(append(b, `,"fromUserId":`...), m.Sender.User)
		}
	} else {
		b = append(b, `"type":"message","from":"server"`...)
	}
	if len(m.Metadata) > 0 {
		b = jsonappend.StringMap(append(b, `,"metadata":`...), m.Metadata)
	}
	switch m.Kind {
	case hub.JSON:
		b = append(append(b, `,"dataType":"json","data":`...), m.Payload...)
	case hub.Binary:
		b = jsonappend.Base64(append(b, `,"dataType":"binary","data":`...), m.Payload)
	case hub.Protobuf:
		b = jsonappend.Base64(append(b, `,"dataType":"protobuf","data":`...), m.Payload)
	default:
		b = jsonappend.String(append(b, `,"dataType":"text","data":`...), m.Payload)
	}
	return append(b, '}')
}

// AppendGreeting appends the connected message.
func (JSON) AppendGreeting(
	dst []byte, info hub.Info, _ string,
) ([]byte, hub.PayloadKind) {
	return append(appendConnected(dst, &info), '}'), hub.Text
}

// AppendGreeting appends the connected message, with the token.
func (ReliableJSON) AppendGreeting(
	dst []byte, info hub.Info, token string,
) ([]byte, hub.PayloadKind) {
	dst = append(appendConnected(dst, &info), `,"reconnectionToken":`...)
	return append(jsonappend.String(dst, token), '}'), hub.Text
}

// appendConnected appends a connected message without its closing brace.
func appendConnected(dst []byte, info *hub.Info) []byte {
	dst = append(dst, `{"type":"system","event":"connected","userId":`...)
	dst = append(jsonappend.String(dst, info.User), `,"connectionId":`...)
	return jsonappend.String(dst, string(info.ID))
}

// AppendGoodbye appends the disconnected message, with the reason of the close.
func (JSON) AppendGoodbye(dst []byte, how cause.CloseStatus) ([]byte, hub.PayloadKind) {
	dst = append(dst, `{"type":"system","event":"disconnected","message":`...)
	return append(jsonappend.String(dst, how.Reason), '}'), hub.Text
}
