package events

import (
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// Limits bound what waits for one subscriber.
type Limits struct {
	Messages int   // that clients sent; beyond it they are dropped
	Bytes    int64 // of those messages
	// The last eighth of both is kept for users that have less than the average in the queue, half of that for such namespaces.
	// Standing is what is never dropped: connected, disconnected, and gaps; beyond it the stream ends. In bytes each is its connection's
	// identity, which it keeps alive: some hundred as a rule, and at most what the header of one request brings (16 KiB: names, labels, up to
	// 256 roles) and the patterns of those roles, which connections with equal ones share.
	Standing int
}

// queue is what waits for one subscriber.
//
// Problem: what happens must be kept for a subscriber that does not read, for how long nobody knows.
//
// Invariants: the events of a connection are in their order; where messages of it are missing there is one gap, with how
// many. Only messages are dropped, and only when there is no room for them. What is in the queue is within the limits. In the last eighth of
// it only those have room that have little in it, so that no client can fill it alone (shares.go).
//
// Outline: a message without room becomes a gap at the end of the queue, and those of its connection that follow make
// it larger, until one is queued. So gaps are never beside each other, and a connection has one more of them than of what
// is queued at most.
type queue struct {
	limits Limits
	room   *room // of the subscriber: what waits counts there until give

	events   []*event // those that wait are events[head:]
	head     int
	messages int
	bytes    int64
	standing int
	shares   *shares                     // of what waits; nil: not needed, less than three quarters of the limits are
	gaps     map[hub.ConnectionID]*event // of connections of which nothing follows
}

func newQueue(l Limits, r *room) *queue {
	return &queue{limits: l, room: r, gaps: map[hub.ConnectionID]*event{}}
}

// put queues an event, or drops it with a gap in its place. ErrSubscriberSlow: there was no room for what may not be
// dropped; the queue is of no use any more.
func (q *queue) put(e *event) (dropped bool, err error) {
	if e.kind == eventsv1.EventKind_EVENT_KIND_MESSAGE {
		if q.hasRoom(e) && q.room.take(e.weight(), true) {
			q.messages++
			q.bytes += e.weight()
			q.push(e)
			return false, nil
		}
		if g := q.gaps[e.who.ID]; g != nil {
			g.dropped++
			g.ordinal, g.at = e.ordinal, e.at
			return true, nil
		}
		dropped, e = true, e.gap()
	}
	if q.standing >= q.limits.Standing || !q.room.take(e.weight(), false) {
		return dropped, ErrSubscriberSlow
	}
	q.standing++
	q.push(e)
	if dropped {
		q.gaps[e.who.ID] = e
	}
	return dropped, nil
}

func (q *queue) hasRoom(e *event) bool {
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
	most := l.Messages - l.Messages/(2*reservedShare)
	return !q.shares.userExceeds(e) && (messages <= most && bytes <= l.Bytes-l.Bytes/(2*reservedShare) || !q.shares.namespaceExceeds(e))
}

// forgetShares saves the work of counting when there is room for all again. To count anew takes an eighth of the limits that is filled before.
func (q *queue) forgetShares() {
	if q.messages <= q.limits.Messages/4*3 && q.bytes <= q.limits.Bytes/4*3 {
		q.shares = nil
	}
}

func (q *queue) push(e *event) {
	if q.shares != nil && e.isMessage() {
		q.shares.add(e)
	}
	delete(q.gaps, e.who.ID)
	q.events = append(q.events, e)
}

// take takes events from the front into dst, so many at most, and no more once they have so many
// bytes. They count in the room until give.
func (q *queue) take(dst []*event, most int, bytes int64) []*event {
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
				q.shares.remove(e)
			}
			continue
		}
		q.standing--
		if q.gaps[e.who.ID] == e {
			delete(q.gaps, e.who.ID)
		}
	}
	q.forgetShares()
	q.compact()
	return dst
}

// give says that events which take returned are given.
func (q *queue) give(events []*event) {
	var bytes int64
	for _, e := range events {
		bytes += e.weight()
	}
	q.room.give(bytes)
}

// maxIdleQueue is how much room an empty queue keeps.
const maxIdleQueue = 1024

// compact moves what waits to the front, when that is less than what was taken: each event is moved once at most on
// average.
func (q *queue) compact() {
	switch waiting := len(q.events) - q.head; {
	case waiting == 0 && cap(q.events) > maxIdleQueue:
		q.events, q.head = nil, 0
	case q.head >= waiting:
		n := copy(q.events, q.events[q.head:])
		clear(q.events[n:])
		q.events, q.head = q.events[:n], 0
	}
}

func (q *queue) empty() bool { return q.head == len(q.events) }
