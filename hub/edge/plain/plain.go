package plain

import (
	"context"
	"errors"
	"net/url"
	"slices"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/internal/names"
)

// Name is the protocol's name in the API, in metrics and in logs. It is not offered as a subprotocol.
const Name = "plain"

// Protocol is the plain protocol.
type Protocol struct {
	// Publisher brings what clients send to a group there; nil: they can't ask for that.
	Publisher edge.Publisher
}

var (
	_ edge.Protocol     = Protocol{}
	_ edge.Configurable = Protocol{}
)

// Name returns Name.
func (Protocol) Name() string { return Name }

// RouteKey maps all routes to one: a plain client sees none.
func (Protocol) RouteKey(hub.Route) hub.Route { return hub.Route{} }

// Encode returns the payload in one frame.
func (Protocol) Encode(m *hub.Message, _ hub.Route) []byte {
	opcode := frame.Text
	if !m.Kind.IsText() {
		opcode = frame.Binary
	}
	b := make([]byte, 0, frame.MaxHeader+len(m.Payload))
	return frame.Append(b, opcode, m.Payload)
}

// Names in the query of a client's URL, as Web PubSub has them.
const (
	queryMode   = "webpubsub_mode"
	queryGroup  = "group"
	modeEvent   = "sendEvent"
	modeToGroup = "sendToGroup"
)

// eventName is that of the event that a frame is.
const eventName = "message"

var errMode = errors.New("webpubsub_mode: want sendEvent, or sendToGroup with one group of 1 to 1024 bytes")

// Configure returns the group to which the client's frames go; empty: they are events.
func (p Protocol) Configure(query url.Values) (string, error) {
	switch groups := query[queryGroup]; query.Get(queryMode) {
	case "", modeEvent:
		return "", nil
	case modeToGroup:
		if p.Publisher != nil && len(groups) == 1 && names.Check(groups[0]) == nil {
			return groups[0], nil
		}
	}
	return "", errMode
}

// Receive makes an event of a frame, or sends it to the client's group.
func (p Protocol) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	group := c.Private()
	if group == "" {
		queued, err := c.Emit(&hub.Event{Name: eventName, Kind: kind, Payload: slices.Clone(payload)})
		if err == nil && !queued {
			return &edge.Rejection{Reason: edge.RejectNoSubscriber} // counted only: the client has no acks
		}
		return err
	}
	if !c.May(hub.Permission{Action: hub.SendToGroup, Group: group}) {
		how := hub.NewClose(hub.CausePolicy)
		how.Reason = "you may not send to this group"
		return &edge.Violation{Close: how}
	}
	from := c.Identity()
	return p.Publisher.Publish(context.Background(), &hub.Send{ // it has its own limits
		Message: &hub.Message{
			Namespace: from.Namespace, Kind: kind, Payload: slices.Clone(payload),
			Sender: hub.Sender{Connection: from.ID, User: from.User},
		},
		Target: hub.Target{Groups: []string{group}},
	})
}
