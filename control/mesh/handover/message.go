package handover

import (
	"time"
	"unicode/utf8"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

//nolint:gochecknoglobals // tables
var (
	payloadKinds = pairs[peerv1.HandoverPayload, hub.PayloadKind]{
		{peerv1.HandoverPayload_HANDOVER_PAYLOAD_TEXT, hub.Text},
		{peerv1.HandoverPayload_HANDOVER_PAYLOAD_JSON, hub.JSON},
		{peerv1.HandoverPayload_HANDOVER_PAYLOAD_BINARY, hub.Binary},
		{peerv1.HandoverPayload_HANDOVER_PAYLOAD_PROTOBUF, hub.Protobuf},
	}
	routeKinds = pairs[peerv1.HandoverRoute, hub.RouteKind]{
		{peerv1.HandoverRoute_HANDOVER_ROUTE_UNSPECIFIED, 0}, // the key of Protocol.RouteKey
		{peerv1.HandoverRoute_HANDOVER_ROUTE_CONNECTION, hub.RouteConnection},
		{peerv1.HandoverRoute_HANDOVER_ROUTE_USER, hub.RouteUser},
		{peerv1.HandoverRoute_HANDOVER_ROUTE_GROUP, hub.RouteGroup},
		{peerv1.HandoverRoute_HANDOVER_ROUTE_EVERYONE, hub.RouteEveryone},
	}
)

// encodeMessage returns a message with its route. Error: ErrUnfit.
func encodeMessage(e *hub.Envelope, now time.Time) (*peerv1.HandoverMessage, error) {
	if e == nil || e.Message == nil {
		return nil, unfitError("no message")
	}
	m := e.Message
	kind, known := payloadKinds.encode(m.Kind)
	route, routed := routeKinds.encode(e.Route.Kind)
	if !known || !routed {
		return nil, unfitError("message of kind %d with route %d", m.Kind, e.Route.Kind)
	}
	return &peerv1.HandoverMessage{
		Id: m.ID, Namespace: m.Namespace, Event: m.Event,
		Kind: kind, Payload: m.Payload,
		SenderConnection: string(m.Sender.Connection), SenderUser: m.Sender.User,
		Metadata: m.Metadata, ExpiresIn: encodeUntil(m.Expires, now), TraceParent: m.TraceParent,
		Route: route, Group: e.Route.Group,
		ConflationKey: e.ConflationKey,
	}, nil
}

// decodeMessage is the inverse of encodeMessage. Error: ErrBroken.
func decodeMessage(m *peerv1.HandoverMessage, now time.Time) (*hub.Envelope, error) {
	if m == nil {
		return nil, brokenError("no message")
	}
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	kind, err := decodePayloadKind(m.GetKind(), m.GetPayload())
	if err != nil {
		return nil, err
	}
	route, ok := routeKinds.decode(m.GetRoute())
	if !ok {
		return nil, brokenError("route %d", m.GetRoute())
	}
	expires, err := decodeUntil(m.GetExpiresIn(), now)
	if err != nil {
		return nil, err
	}
	return &hub.Envelope{
		Message: &hub.Message{
			ID: m.GetId(), Namespace: m.GetNamespace(), Event: m.GetEvent(),
			Kind: kind, Payload: m.GetPayload(),
			Sender: hub.Sender{
				Connection: hub.ConnectionID(m.GetSenderConnection()), User: m.GetSenderUser(),
			},
			Metadata: m.GetMetadata(), Expires: expires, TraceParent: m.GetTraceParent(),
		},
		Route:         hub.Route{Kind: route, Group: m.GetGroup()},
		ConflationKey: m.GetConflationKey(),
	}, nil
}

// decodePayloadKind checks a payload, and returns its kind.
func decodePayloadKind(k peerv1.HandoverPayload, payload []byte) (hub.PayloadKind, error) {
	kind, ok := payloadKinds.decode(k)
	switch {
	case !ok:
		return 0, brokenError("payload of kind %d", k)
	case len(payload) > hub.MaxPayload:
		return 0, brokenError("payload of %d bytes", len(payload))
	case kind.IsText() && !utf8.Valid(payload):
		return 0, brokenError("text is not UTF-8")
	default:
		return kind, nil
	}
}
