package hub

import (
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
)

// pushMessage puts a message into the outbox, as the policy allows. It never blocks on the client.
//
// It returns the link that the caller must flush. It returns nil if there is none, or if the
// goroutine that filled the queue will flush it, or the link when its wire takes more. A numbered
// connection always returns its link: its queue may wait until the client confirms something before
// a message of some size may go, and a smaller message may fit.
//
// strayed is set if the connection has moved to a different hub, or may have. The message is not
// for this hub.
func (c *Connection) pushMessage(e *Envelope, policy overflow.Policy) (_ Link, strayed bool) {
	c.mu.Lock()
	if l, o := c.link, &c.state.Outbox; l != nil && o.queueLen() > 0 &&
		!o.hasRoom(e.payloadSize(), c.hub().config.Outbox) {
		// The messages in the queue may only wait for the flush of the goroutine that pushed them.
		c.mu.Unlock()
		l.Flush()
		c.mu.Lock()
	}
	if c.state.isGone() {
		strayed = c.state.isElsewhere()
		c.mu.Unlock()
		if strayed {
			e.tally.countMoved()
		} else {
			c.countDropNew(e, cause.DropClosed)
		}
		return nil, strayed
	}
	pending := c.numbering == nil && c.state.Outbox.queueLen() > 0
	if policy == overflow.Conflate && c.conflateLocked(e) {
		return c.finishPushAndUnlock(e, pending), false
	}
	if !c.makeRoomLocked(e, policy) {
		if policy != overflow.CloseSlow {
			c.mu.Unlock()
			c.countDropNew(e, cause.DropOverflowNewest)
			return nil, false
		}
		link := c.closeLocked(cause.Slow.CloseStatus())
		c.mu.Unlock()
		c.countDropNew(e, cause.DropOverflowClose)
		c.closeLink(link, cause.Slow.CloseStatus())
		return nil, false
	}
	c.applyLocked(Op{Kind: OpPush, Envelope: e})
	return c.finishPushAndUnlock(e, pending), false
}

// conflateLocked puts e in the place of the queued message with its key. It reports false if there
// is none, or if its place is too small. In the second case it drops the old message, and e queues
// like any message.
func (c *Connection) conflateLocked(e *Envelope) bool {
	o := &c.state.Outbox
	i := o.findConflated(e.ConflationKey)
	if i < 0 {
		return false
	}
	if !o.hasRoomInPlace(i, e.payloadSize(), c.hub().config.Outbox) {
		c.dropLocked(i, cause.DropConflated)
		return false
	}
	c.countDropQueued(o.queueEntries()[i], cause.DropConflated)
	c.applyLocked(Op{Kind: OpConflate, Index: i, Envelope: e})
	return true
}

// finishPushAndUnlock ends a push that succeeded, and releases c.mu, which must be held. pending
// says that a different goroutine is about to flush the link: then it returns nil.
func (c *Connection) finishPushAndUnlock(e *Envelope, pending bool) Link {
	if c.state.Phase == PhaseDetached {
		e.tally.detached.Add(1)
	}
	c.noteExpiryLocked(e)
	link := c.link
	c.mu.Unlock()
	if pending {
		return nil
	}
	return link
}

// makeRoomLocked reports whether the queue can take e, after it has dropped messages as the policy
// allows.
func (c *Connection) makeRoomLocked(e *Envelope, policy overflow.Policy) bool {
	o := &c.state.Outbox
	if o.queueLen() == 0 {
		return true // idle, as a rule
	}
	bounds := c.hub().config.Outbox
	if o.hasRoom(e.payloadSize(), bounds) {
		return true
	}
	c.dropExpiredLocked()
	if policy == overflow.DropOldest || policy == overflow.Conflate {
		for o.queueLen() > 0 && !o.hasRoom(e.payloadSize(), bounds) {
			c.dropLocked(0, cause.DropOverflowOldest)
		}
	}
	return o.hasRoom(e.payloadSize(), bounds)
}

// dropExpiredLocked drops expired messages from the queue. It looks only if some may have expired:
// a full queue is pushed to often.
func (c *Connection) dropExpiredLocked() {
	if c.soonest == nil || time.Now().Before(*c.soonest) {
		return
	}
	c.soonest = nil
	for i := c.state.Outbox.queueLen() - 1; i >= 0; i-- {
		if e := c.state.Outbox.queueEntries()[i]; e.isExpired() {
			c.dropLocked(i, cause.DropExpired)
		} else {
			c.noteExpiryLocked(e)
		}
	}
}

// noteExpiryLocked notes when e, now queued, expires.
func (c *Connection) noteExpiryLocked(e *Envelope) {
	if x := &e.Message.Expires; !x.IsZero() && (c.soonest == nil || x.Before(*c.soonest)) {
		c.soonest = x
	}
}

// dropLocked drops the i-th message of the queue.
func (c *Connection) dropLocked(i int, r cause.DropReason) {
	c.countDropQueued(c.state.Outbox.queueEntries()[i], r)
	c.applyLocked(Op{Kind: OpDrop, Index: i, Reason: r})
}

// countDropQueued counts a queued message that is dropped. The detached count goes first: see
// tally.
func (c *Connection) countDropQueued(e *Envelope, r cause.DropReason) {
	if c.state.Phase == PhaseDetached {
		e.tally.detached.Add(-1)
	}
	c.countDropNew(e, r)
}

// countDropNew counts a drop of a message that never got into the outbox. For a queued message
// countDropQueued calls it.
func (c *Connection) countDropNew(e *Envelope, r cause.DropReason) {
	e.tally.countDrop(r)
	c.hub().metrics.addDropped(r, 1)
}
