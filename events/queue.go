package events

import "github.com/connhub/connhub/hub"

// Limits bound the events that wait in a subscription.
//
// The last eighth of Messages and Bytes is kept for users that have less than the average in the
// queue, and half of that for such namespaces.
type Limits struct {
	// Messages is how many messages may wait. Beyond it messages are dropped.
	Messages int
	// Bytes is how many bytes of messages may wait. Beyond it messages are dropped.
	Bytes int64
	// Standing is how many events may wait that are never dropped: connected, disconnected, and
	// gaps. Beyond it the subscription ends. Each keeps its connection's identity alive: some
	// hundred bytes as a rule. It is at most the header of a request (16 KiB: names, labels, up to
	// 256 roles), and the patterns of the roles, which connections with equal roles share.
	Standing int
}

// queue holds the events that wait in a subscription.
//
// Problem: events must be kept for a subscriber that does not read, for an unknown time.
//
// Invariants:
//   - The events of a connection are in their order. Where messages of it are missing there is a
//     single gap, with their number.
//   - Only messages are dropped, and only when there is no room for them.
//   - The events that wait are within the limits. In the last eighth of them only messages of users
//     that have little there find room, so that no client can fill the queue alone (shares.go).
//
// Outline: a message without room becomes a gap at the end of the queue. The messages of its
// connection that follow widen the gap, until a message of it is queued again. So two gaps are
// never beside each other, and a connection has at most as many gaps as events in the queue, and
// one more.
type queue struct {
	limits Limits
	room   *room // counts the events from putEvent until the way out has released them

	events   []*Event // those that wait are events[head:]
	head     int
	messages int
	bytes    int64 // of messages
	standing int
	shares   *shares                     // of the messages that wait; nil: less than 7/8 is in use
	gaps     map[hub.ConnectionID]*Event // of connections that have nothing behind the gap
}

func newQueue(l Limits, r *room) *queue {
	return &queue{limits: l, room: r, gaps: map[hub.ConnectionID]*Event{}}
}

// putEvent queues an event. If it has no room for a message, it puts a gap in its place, or widens
// the gap that is there, and returns the reason; otherwise it returns 0.
//
// ErrSubscriberSlow: there was no room for an event that may not be dropped. The queue must not be
// used any more.
func (q *queue) putEvent(e *Event) (dropped GapReason, err error) {
	if e.isMessage() {
		if q.hasRoom(e) && q.room.holdBytes(e.weight(), true) {
			q.messages++
			q.bytes += e.weight()
			q.pushEvent(e)
			return 0, nil
		}
		dropped = SubscriberSlow
		if gap := q.gaps[e.Identity.ID]; gap != nil {
			gap.widenGap(e)
			return dropped, nil
		}
		e = e.newGap(dropped)
	}
	if q.standing >= q.limits.Standing || !q.room.holdBytes(e.weight(), false) {
		return dropped, ErrSubscriberSlow
	}
	q.standing++
	q.pushEvent(e)
	if dropped != 0 {
		q.gaps[e.Identity.ID] = e
	}
	return dropped, nil
}

// hasRoom reports whether the limits have room for a message.
func (q *queue) hasRoom(e *Event) bool {
	messages, bytes := q.messages+1, q.bytes+e.weight()
	l := &q.limits
	switch {
	case messages > l.Messages || bytes > l.Bytes:
		return false
	case messages <= l.Messages-l.Messages/reservedShare && bytes <= l.Bytes-l.Bytes/reservedShare:
		return true
	}
	if q.shares == nil {
		q.shares = countShares(q.events[q.head:])
	}
	if q.shares.userExceeds(e) {
		return false
	}
	const half = 2 * reservedShare
	isBelowHalf := messages <= l.Messages-l.Messages/half && bytes <= l.Bytes-l.Bytes/half
	return isBelowHalf || !q.shares.namespaceExceeds(e)
}

// forgetShares saves the work of counting when there is room for all again. Before shares are
// counted anew, an eighth of the limits must fill up.
func (q *queue) forgetShares() {
	if q.messages <= q.limits.Messages/4*3 && q.bytes <= q.limits.Bytes/4*3 {
		q.shares = nil
	}
}

func (q *queue) pushEvent(e *Event) {
	if q.shares != nil && e.isMessage() {
		q.shares.addMessage(e)
	}
	delete(q.gaps, e.Identity.ID)
	q.events = append(q.events, e)
}

// takeEvents moves events from the front to the end of dst: at most so many, and none any more once
// they have so many bytes. The room counts them until the way out releases them.
func (q *queue) takeEvents(dst []*Event, most int, bytes int64) []*Event {
	for q.head < len(q.events) && most > 0 && bytes > 0 {
		e := q.events[q.head]
		q.events[q.head] = nil
		q.head++
		most--
		bytes -= e.weight()
		dst = append(dst, e)
		if e.isMessage() {
			q.messages--
			q.bytes -= e.weight()
			if q.shares != nil {
				q.shares.removeMessage(e)
			}
			continue
		}
		q.standing--
		if q.gaps[e.Identity.ID] == e {
			delete(q.gaps, e.Identity.ID)
		}
	}
	q.forgetShares()
	q.compactEvents()
	return dst
}

// maxIdleQueue is for how many events an empty queue keeps room.
const maxIdleQueue = 1024

// compactEvents moves the events that wait to the front, if they are fewer than those that were
// taken. So each event is moved at most once on average.
func (q *queue) compactEvents() {
	switch waiting := len(q.events) - q.head; {
	case waiting == 0 && cap(q.events) > maxIdleQueue:
		q.events, q.head = nil, 0
	case q.head >= waiting:
		n := copy(q.events, q.events[q.head:])
		clear(q.events[n:])
		q.events, q.head = q.events[:n], 0
	}
}

// dropEvents empties the queue for good.
func (q *queue) dropEvents() {
	q.room.freeEvents(q.events[q.head:])
	*q = queue{room: q.room}
}

func (q *queue) isEmpty() bool { return q.head == len(q.events) }
