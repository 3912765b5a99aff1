package events

import (
	"fmt"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// Kind is a kind of event. Its text is a label of metrics.
type Kind uint8

// The kinds. The events of a connection begin with KindConnected and end with KindDisconnected.
const (
	KindConnected    Kind = iota + 1 // the client has its first link
	KindMessage                      // the client sent a message for the backends
	KindDisconnected                 // the connection is closed
)

var kindNames = [...]string{"", "connected", "message", "disconnected"}

// String implements fmt.Stringer.
func (k Kind) String() string { return kindNames[k] }

// kindOf returns the kind of the event that an op is, or 0 if the op is none.
func kindOf(op hub.OpKind) Kind {
	switch op {
	case hub.OpAttach:
		return KindConnected
	case hub.OpEvent:
		return KindMessage
	case hub.OpClose:
		return KindDisconnected
	default:
		return 0
	}
}

// Ops returns the kinds of ops that a Broker has to see.
func Ops() []hub.OpKind { return []hub.OpKind{hub.OpAttach, hub.OpEvent, hub.OpClose} }

// GapReason says why messages are missing. Its text is a label of metrics.
type GapReason uint8

// SubscriberSlow: the queue of the subscription, or the account of its subscriber, had no room.
const SubscriberSlow GapReason = 1

var gapReasonNames = [...]string{"", "subscriber_slow"}

// String implements fmt.Stringer.
func (r GapReason) String() string { return gapReasonNames[r] }

// Event is an event of a connection, or a gap: it stands for messages of the connection that were
// dropped. The subscriptions that select an event share it, so a way out must not change it. A gap
// belongs to its subscription alone.
type Event struct {
	// Kind of the event. That of a gap is KindMessage.
	Kind Kind
	// Gap is why the messages that a gap stands for are missing; 0: the event is no gap.
	Gap GapReason
	// Identity is the connection's.
	Identity hub.Identity
	// Ordinal numbers the events of the connection, from 1. That of a gap is of its last message.
	Ordinal uint64
	// At is when the event happened, by the hub's clock. That of a gap is of its last message.
	At time.Time
	// Message is the content of a message; nil for other kinds and for gaps.
	Message *hub.ClientEvent
	// Close is how the connection ended; zero for other kinds.
	Close cause.CloseStatus
	// Missing is how many messages a gap stands for, without a hole between them but for messages
	// that the filter leaves out; 0: the event is no gap.
	Missing int64
}

// newEvent returns the event that an op is.
func newEvent(of *hub.Identity, op *hub.Op, at time.Time) *Event {
	return &Event{
		Kind: kindOf(op.Kind), Identity: *of, Ordinal: op.Ordinal, At: at,
		Message: op.Event, Close: op.Close,
	}
}

// ID returns the event's id. It is the same for each subscriber, each time that the event is given.
func (e *Event) ID() string { return fmt.Sprintf("%s/%d", e.Identity.ID, e.Ordinal) }

// isMessage reports whether the event is a message, and not a gap in place of messages.
func (e *Event) isMessage() bool { return e.Kind == KindMessage && e.Missing == 0 }

// newGap returns a gap in place of a message.
func (e *Event) newGap(reason GapReason) *Event {
	gap := *e
	gap.Message, gap.Gap, gap.Missing = nil, reason, 1
	return &gap
}

// widenGap lets a gap stand for a message more, the next of its connection.
func (e *Event) widenGap(message *Event) {
	e.Missing++
	e.Ordinal, e.At = message.Ordinal, message.At
}

// eventBytes is about how much memory an event takes beside its texts and its payload.
const eventBytes = 256

// weight returns about how many bytes of memory the event takes.
func (e *Event) weight() int64 {
	id := &e.Identity
	n := eventBytes + len(id.Namespace) + len(id.User) + len(id.RemoteAddress) + len(e.Close.Reason)
	if e.Message != nil {
		n += len(e.Message.Name) + len(e.Message.Payload)
	}
	if id.Claims != nil {
		for name, value := range id.Claims.Labels {
			n += len(name) + len(value)
		}
	}
	return int64(n)
}
