package hub

import "github.com/prometheus/client_golang/prometheus"

// Protocol says how messages look on a link. An implementation is stateless and shared by all
// connections that speak it; its methods may run concurrently.
//
// A protocol whose messages are numbered and confirmed by the client implements Numbered as well.
type Protocol interface {
	// Name is the protocol's name in the API, in metrics and in logs: the WebSocket subprotocol, or
	// "plain".
	Name() string

	// RouteKey maps a route to the one that stands for all routes that Encode makes the same bytes
	// for. The hub encodes a message once for each key, and all connections with that key share the
	// bytes. A protocol that does not show routes returns the zero Route.
	RouteKey(Route) Route

	// Encode returns the bytes of m on the wire, framing included: one or several frames that are
	// written as a unit; never empty. r is a route that RouteKey returned. The hub keeps the slice and
	// never changes it.
	Encode(m *Message, r Route) []byte
}

// Numbered is a Protocol that gives each message of a connection a sequence id (1, 2, 3 ...) and whose
// clients confirm them. The hub keeps what is not confirmed (the tail), keeps the connection for a while
// when its link is lost, and writes the tail again, with the same ids, when the client resumes.
type Numbered interface {
	Protocol

	// AppendPrefix appends to dst what precedes the shared bytes that Encode returned for the message
	// with this sequence id: the frame's header, and whatever shows the id. Of shared only the length counts.
	AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte

	// AppendGreeting appends to dst what a link carries before anything else each time that the
	// connection gets one; token is what the client must show to resume after this link.
	AppendGreeting(dst []byte, info Info, token string) []byte
}

// Greeter is a Protocol without numbers that says hello, for instance to tell the client its
// connection id.
type Greeter interface {
	// AppendGreeting appends to dst what the link carries before anything else.
	AppendGreeting(dst []byte, info Info) []byte
}

// dialect is a Protocol and what the hub looks up of it once, for all connections that speak it.
type dialect struct {
	Protocol
	numbered    Numbered // nil: it is not
	greeter     Greeter  // nil: it is none
	connections prometheus.Gauge
}

// dialectLocked returns the dialect of a protocol. Guarded by Hub.mu.
func (h *Hub) dialectLocked(p Protocol) *dialect {
	d, ok := h.dialects[p]
	if !ok {
		d = &dialect{Protocol: p, connections: h.metrics.connections.WithLabelValues(p.Name())}
		d.numbered, _ = p.(Numbered)
		d.greeter, _ = p.(Greeter)
		h.dialects[p] = d
	}
	return d
}
