package plain

import (
	"context"
	"errors"
	"net/url"
	"slices"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/names"
)

// Name is the protocol's name in the API, in metrics and in logs. It is no WebSocket subprotocol.
const Name = "plain"

// Protocol is the plain protocol.
type Protocol struct {
	// Publisher delivers the messages that clients send to groups. If it is nil, Configure refuses
	// sendToGroup.
	Publisher edge.Publisher
}

var (
	_ edge.Protocol     = Protocol{}
	_ edge.Configurable = Protocol{}
)

// Name returns Name.
func (Protocol) Name() string { return Name }

// RouteKey returns the same key for all routes: the protocol does not show the route to clients, so
// all connections share the bytes of a message.
func (Protocol) RouteKey(hub.Route) hub.Route { return hub.Route{} }

// AppendMessage appends the payload.
func (Protocol) AppendMessage(
	dst []byte, m *hub.Message, _ hub.Route,
) ([]byte, hub.PayloadKind) {
	return append(dst, m.Payload...), m.Kind
}

// Names and values in the query of a client's URL, the same as those of Web PubSub.
const (
	queryMode   = "webpubsub_mode"
	queryGroup  = "group"
	modeEvent   = "sendEvent"
	modeToGroup = "sendToGroup"
)

// eventName is the name of the event that Receive makes of a client's message.
const eventName = "message"

var errMode = errors.New(
	"webpubsub_mode: want sendEvent, or sendToGroup with one group of 1 to 1024 bytes")

// Configure returns the group that the query directs the client's messages to. It returns "" if the
// messages are events.
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

// Receive emits an event with the payload, or sends the payload to the group that Configure chose
// for c. It returns an edge.Rejection if no backend subscribes to events, and an edge.Violation if
// the client lacks the permission to send to the group.
func (p Protocol) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	group := c.Private()
	if group == "" {
		event := &hub.ClientEvent{Name: eventName, Kind: kind, Payload: slices.Clone(payload)}
		queued, err := c.Emit(event)
		if err == nil && !queued {
			// The edge only counts it: the protocol has no acks.
			return &edge.Rejection{Reason: edge.RejectNoSubscriber}
		}
		return err
	}
	if !c.May(permission.Permission{Action: permission.SendToGroup, Group: group}) {
		how := cause.PolicyViolation.CloseStatus()
		how.Reason = "you may not send to this group"
		return &edge.Violation{Close: how}
	}
	from := c.Identity()
	// Publish has time limits of its own.
	return p.Publisher.Publish(context.Background(), &hub.Send{
		Message: &hub.Message{
			Namespace: from.Namespace, Kind: kind, Payload: slices.Clone(payload),
			Sender: hub.Sender{Connection: from.ID, User: from.User},
		},
		Target: hub.Target{Groups: []string{group}},
	})
}
