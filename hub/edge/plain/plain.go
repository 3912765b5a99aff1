package plain

import (
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// Name is the protocol's name in the API, in metrics and in logs. It is not offered as a subprotocol.
const Name = "plain"

// Protocol is the plain protocol. The zero value is ready to use.
type Protocol struct{}

var _ edge.Protocol = Protocol{}

// Name returns Name.
func (Protocol) Name() string { return Name }

// RouteKey maps all routes to one: a plain client sees none.
func (Protocol) RouteKey(hub.Route) hub.Route { return hub.Route{} }

// Encode returns the payload in one frame.
func (Protocol) Encode(m *hub.Message, _ hub.Route) []byte {
	opcode := frame.Text
	if m.Kind == hub.Binary {
		opcode = frame.Binary
	}
	b := make([]byte, 0, frame.MaxHeader+len(m.Payload))
	return frame.Append(b, opcode, m.Payload)
}

// Receive takes anything and does nothing with it yet.
func (Protocol) Receive(*hub.Connection, hub.PayloadKind, []byte) error { return nil }
