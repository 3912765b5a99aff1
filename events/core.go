package events

import "github.com/connhub/connhub/hub"

// core decides about a single subscription: which events it gets, in which order, and which it
// misses. It has no goroutine, no clock, no lock and no I/O. Inputs are calls: from the hub's side
// offerEvent, goAway, finishEvents; from the way out takeBatch, releaseBatch, endNow. The work of
// the shell comes out as effects. The only question that the core asks is the Account's.
//
// Invariants:
//   - A batch that was taken is in flight until it is released. Its events count in the room until
//     then, also after the end.
//   - The hub's leaving is told once, in a batch. A subscription that is over because no more
//     events come has told it, has no event left and no batch in flight.
//   - A subscription ends once. The first error stays.
type core struct {
	filter Filter
	room   room
	queue  *queue

	inFlight   int   // batches that are taken and not released
	isLeaving  bool  // the hub leaves
	hasTold    bool  // a batch has told that the hub leaves
	isFinished bool  // no more events come
	err        error // why the subscription is over; nil: it is not
}

// Batch is a number of events that a way out takes from a subscription at once.
type Batch struct {
	// Events are those of each connection in their order. The way out must not change them.
	Events []*Event
	// GoingAway is true once: the hub begins to leave. Events still come.
	GoingAway bool
}

// IsEmpty reports whether there was nothing to take. An empty batch need not be released.
func (b *Batch) IsEmpty() bool { return len(b.Events) == 0 && !b.GoingAway }

// newCore returns the core of a subscription that gets the events of its filter, from now on.
func newCore(f Filter, l Limits, a Account) *core {
	c := &core{filter: f.withDefaults(), room: room{account: a}}
	c.queue = newQueue(l, &c.room)
	return c
}

// offerEvent queues an event that the filter selects, or drops it. A subscription that has no room
// for an event that may not be dropped is over, with ErrSubscriberSlow.
func (c *core) offerEvent(e *Event) (fx effects) {
	if c.err != nil {
		return effects{}
	}
	hadWork := c.hasWork()
	var err error
	if fx.dropped, err = c.queue.putEvent(e); err != nil {
		fx.isOver = c.endNow(err).isOver
		return fx
	}
	fx.isQueued = fx.dropped == 0
	fx.wakes = !hadWork
	return fx
}

// goAway has the next batch tell that the hub leaves.
func (c *core) goAway() effects {
	hadWork := c.hasWork()
	c.isLeaving = true
	return effects{wakes: !hadWork && c.hasWork()}
}

// finishEvents says that no more events come. The subscription is over, with hub.ErrShuttingDown,
// when all that waits is taken and released.
func (c *core) finishEvents() effects {
	c.isFinished = true
	return c.checkDone()
}

// takeBatch takes the events that wait, into spare: at most so many, and none any more once they
// have so many bytes.
func (c *core) takeBatch(spare []*Event, most int, bytes int64) Batch {
	if c.err != nil {
		return Batch{}
	}
	b := Batch{
		Events:    c.queue.takeEvents(spare[:0], most, bytes),
		GoingAway: c.isLeaving && !c.hasTold,
	}
	c.hasTold = c.isLeaving
	if !b.IsEmpty() {
		c.inFlight++
	}
	return b
}

// releaseBatch says that the way out is done with a batch that is not empty: the subscriber has it,
// or never gets it.
func (c *core) releaseBatch(b Batch) effects {
	c.inFlight--
	c.room.freeEvents(b.Events)
	return c.checkDone()
}

// endNow ends the subscription. Events that wait are given to no one.
func (c *core) endNow(err error) effects {
	if c.err != nil {
		return effects{}
	}
	c.err = err
	c.queue.dropEvents()
	return effects{isOver: true}
}

// hasWork reports whether a batch would not be empty.
func (c *core) hasWork() bool {
	return c.err == nil && (!c.queue.isEmpty() || c.isLeaving && !c.hasTold)
}

// checkDone ends the subscription if no more events come, and the way out is done with all.
func (c *core) checkDone() effects {
	if !c.isFinished || c.hasWork() || c.inFlight > 0 {
		return effects{}
	}
	return c.endNow(hub.ErrShuttingDown)
}
