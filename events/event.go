package events

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// event is one event on its way to subscribers, who share it. It does not change, but for gaps, which belong to a queue.
type event struct {
	kind    eventsv1.EventKind
	who     hub.Identity
	ordinal uint64
	at      time.Time
	message *hub.Event        // of a message
	close   cause.CloseStatus // of a disconnected
	dropped int64             // above 0: a gap that stands for so many messages, of which the last has this ordinal
}

// newEvent returns the event that an op is.
func newEvent(who *hub.Identity, op *hub.Op) *event {
	return &event{kind: kindOf(op.Kind), who: *who, ordinal: op.Ordinal, at: time.Now(), message: op.Event, close: op.Close}
}

// isMessage reports whether the event is a message, and not a gap in place of one.
func (e *event) isMessage() bool {
	return e.kind == eventsv1.EventKind_EVENT_KIND_MESSAGE && e.dropped == 0
}

// gap returns a gap in place of a message.
func (e *event) gap() *event {
	g := *e
	g.message, g.dropped = nil, 1
	return &g
}

// eventBytes is about what an event takes beside its texts and its payload.
const eventBytes = 256

// weight is about what the event takes, in bytes.
func (e *event) weight() int64 {
	n := eventBytes + len(e.who.Namespace) + len(e.who.User) + len(e.who.RemoteAddress) + len(e.close.Reason)
	if e.message != nil {
		n += len(e.message.Name) + len(e.message.Payload)
	}
	if e.who.Claims != nil {
		for name, value := range e.who.Claims.Labels {
			n += len(name) + len(value)
		}
	}
	return int64(n)
}

// proto is the event of a hub in the API.
func (e *event) proto(of hub.ID) *eventsv1.Event {
	p := &eventsv1.Event{
		Id:         fmt.Sprintf("%s/%d", e.who.ID, e.ordinal),
		Time:       timestamppb.New(e.at),
		Namespace:  e.who.Namespace,
		Connection: string(e.who.ID),
		User:       e.who.User,
		Protocol:   e.who.Protocol,
		Ordinal:    int64(e.ordinal),
		Hub:        string(of),
	}
	if e.who.Claims != nil {
		p.Labels = e.who.Claims.Labels
	}
	switch {
	case e.dropped > 0:
		p.Kind = &eventsv1.Event_Gap{Gap: &eventsv1.Gap{Count: e.dropped, Reason: eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW}}
	case e.kind == eventsv1.EventKind_EVENT_KIND_CONNECTED:
		p.Kind = &eventsv1.Event_Connected{Connected: &eventsv1.Connected{RemoteAddress: e.who.RemoteAddress}}
	case e.kind == eventsv1.EventKind_EVENT_KIND_MESSAGE:
		p.Kind = &eventsv1.Event_Message{Message: message(e.message)}
	case e.kind == eventsv1.EventKind_EVENT_KIND_DISCONNECTED:
		p.Kind = &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: causes[e.close.Cause], Code: int32(e.close.Code), Reason: e.close.Reason,
		}}
	}
	return p
}

func message(m *hub.Event) *eventsv1.Message {
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

// Ops returns the ops that a Broker has to see.
func Ops() []hub.OpKind { return []hub.OpKind{hub.OpAttach, hub.OpEvent, hub.OpClose} }

func kindOf(op hub.OpKind) eventsv1.EventKind {
	switch op {
	case hub.OpAttach:
		return eventsv1.EventKind_EVENT_KIND_CONNECTED
	case hub.OpEvent:
		return eventsv1.EventKind_EVENT_KIND_MESSAGE
	case hub.OpClose:
		return eventsv1.EventKind_EVENT_KIND_DISCONNECTED
	default:
		return eventsv1.EventKind_EVENT_KIND_UNSPECIFIED
	}
}

// causes are those of the API. Their names are the labels of the hub's; a test holds that none is missing.
var causes = func() map[cause.Cause]eventsv1.DisconnectCause {
	m := map[cause.Cause]eventsv1.DisconnectCause{}
	for _, c := range cause.All() {
		m[c] = eventsv1.DisconnectCause(eventsv1.DisconnectCause_value["DISCONNECT_CAUSE_"+strings.ToUpper(c.String())])
	}
	return m
}()
