package stream

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// kinds has the kind of events for each kind of the API.
var kinds = map[eventsv1.EventKind]events.Kind{
	eventsv1.EventKind_EVENT_KIND_CONNECTED:    events.KindConnected,
	eventsv1.EventKind_EVENT_KIND_MESSAGE:      events.KindMessage,
	eventsv1.EventKind_EVENT_KIND_DISCONNECTED: events.KindDisconnected,
}

// gapReasons has the reason of the API for each reason of events.
var gapReasons = map[events.GapReason]eventsv1.GapReason{
	events.SubscriberSlow: eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW,
}

// causes has the cause of the API for each cause of the hub. The names of the API's are the labels
// of the hub's in capitals; a test holds that none is missing.
var causes = func() map[cause.Cause]eventsv1.DisconnectCause {
	m := map[cause.Cause]eventsv1.DisconnectCause{}
	for _, c := range cause.All() {
		name := "DISCONNECT_CAUSE_" + strings.ToUpper(c.String())
		m[c] = eventsv1.DisconnectCause(eventsv1.DisconnectCause_value[name])
	}
	return m
}()

// newFilter returns the filter of a subscription that the server of the API has validated.
func newFilter(s *eventsv1.Subscription) events.Filter {
	f := events.Filter{Namespaces: s.GetNamespaces(), MessageNames: s.GetMessageNames()}
	for _, kind := range s.GetKinds() {
		f.Kinds = append(f.Kinds, kinds[kind])
	}
	return f
}

// newResponse returns a batch in the API.
func newResponse(b events.Batch, of hub.ID) *eventsv1.SubscribeResponse {
	response := &eventsv1.SubscribeResponse{Events: make([]*eventsv1.Event, len(b.Events))}
	for i, e := range b.Events {
		response.Events[i] = newEvent(e, of)
	}
	if b.GoingAway {
		response.GoingAway = &eventsv1.GoingAway{}
	}
	return response
}

// newEvent returns an event of a hub in the API.
func newEvent(e *events.Event, of hub.ID) *eventsv1.Event {
	id := &e.Identity
	p := &eventsv1.Event{
		Id:         e.ID(),
		Time:       timestamppb.New(e.At),
		Namespace:  id.Namespace,
		Connection: string(id.ID),
		User:       id.User,
		Protocol:   id.Protocol,
		Ordinal:    int64(e.Ordinal),
		Hub:        string(of),
	}
	if id.Claims != nil {
		p.Labels = id.Claims.Labels
	}
	setKind(p, e)
	return p
}

// setKind sets the oneof of p that has the kind of the event.
func setKind(p *eventsv1.Event, e *events.Event) {
	switch {
	case e.Gap != 0:
		p.Kind = &eventsv1.Event_Gap{
			Gap: &eventsv1.Gap{Count: e.Missing, Reason: gapReasons[e.Gap]},
		}
	case e.Kind == events.KindConnected:
		p.Kind = &eventsv1.Event_Connected{
			Connected: &eventsv1.Connected{RemoteAddress: e.Identity.RemoteAddress},
		}
	case e.Kind == events.KindMessage:
		p.Kind = &eventsv1.Event_Message{Message: newMessage(e.Message)}
	case e.Kind == events.KindDisconnected:
		p.Kind = &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: causes[e.Close.Cause], Code: int32(e.Close.Code), Reason: e.Close.Reason,
		}}
	}
}

func newMessage(m *hub.ClientEvent) *eventsv1.Message {
	p := &eventsv1.Message{Name: m.Name}
	switch m.Kind {
	case hub.Text:
		p.Payload = &eventsv1.Message_Text{Text: string(m.Payload)}
	case hub.JSON:
		p.Payload = &eventsv1.Message_Json{Json: string(m.Payload)}
	case hub.Binary:
		p.Payload = &eventsv1.Message_Binary{Binary: m.Payload}
	case hub.Protobuf:
		p.Payload = &eventsv1.Message_Protobuf{Protobuf: m.Payload}
	}
	return p
}
