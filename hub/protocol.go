package hub

import "github.com/prometheus/client_golang/prometheus"

// Protocol encodes messages for links: a protocol of clients, joined with the framing of their
// links. An implementation is stateless and shared by all connections that speak it; its methods
// may run concurrently. It must be comparable: the hub has it as a key. hub/edge refuses others.
//
// A protocol whose clients confirm numbered messages implements Numbered as well. If protocols with
// the same name differ in their bytes, for instance by the framing, all but one of them need a
// method Variant() string, which returns the name in Snapshot.Protocol.
type Protocol interface {
	// Name is the protocol's name in the API, in metrics and in logs: the WebSocket subprotocol, or
	// "plain".
	Name() string

	// RouteKey maps a route to the key of all routes for which Encode makes the same bytes. The hub
	// encodes a message once for each key, and all connections with that key share the bytes. A
	// protocol that does not show routes returns the zero Route.
	RouteKey(Route) Route

	// Encode returns the bytes of m on the wire, framing included, which are written as a unit;
	// never empty. r is a route that RouteKey returned. The hub keeps the slice and never changes
	// it.
	Encode(m *Message, r Route) []byte

	// AppendGreeting appends to dst the bytes that each new link of the connection carries first,
	// for instance to tell the client its connection id. They may be none. The client of a Numbered
	// protocol must show token to resume after this link. For other protocols token is empty.
	AppendGreeting(dst []byte, info Info, token string) []byte

	// AppendReply appends to dst the bytes on the wire of a message that the protocol sends to a
	// single client. kind is Text or Binary. See Connection.Reply.
	AppendReply(dst []byte, kind PayloadKind, message []byte) []byte
}

// Numbered is a Protocol that gives each message of a connection a sequence id (1, 2, 3 ...) and
// whose clients confirm them. The hub keeps unconfirmed messages (the tail). It keeps the
// connection for a while when its link is lost, and writes the tail again, with the same ids, when
// the client resumes.
type Numbered interface {
	Protocol

	// AppendPrefix appends to dst the bytes that precede the shared bytes of the message with this
	// sequence id: the frame's header, and the part that shows the id. shared is the result of
	// Encode; only its length counts.
	AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte
}

// variant is a Protocol with a name of its own in snapshots.
type variant interface{ Variant() string }

// variantName returns the name by which a snapshot tells p from all other protocols.
func variantName(p Protocol) string {
	if v, ok := p.(variant); ok {
		return v.Variant()
	}
	return p.Name()
}

// dialect is a Protocol with the results of look-ups that all its connections share.
type dialect struct {
	Protocol
	// numbered is nil if the protocol does not number messages.
	numbered    Numbered
	connections prometheus.Gauge
}

// dialectLocked returns the dialect of a protocol. Hub.mu must be held.
func (h *Hub) dialectLocked(p Protocol) *dialect {
	d, ok := h.dialects[p]
	if !ok {
		d = &dialect{Protocol: p, connections: h.metrics.connections.WithLabelValues(p.Name())}
		d.numbered, _ = p.(Numbered)
		h.dialects[p] = d
	}
	return d
}
