package hub

import (
	"fmt"
	"time"
)

// push puts a message into the outbox, as the policy allows, and returns the link to flush, if there is
// one, and nobody else does it: where something was queued already, whoever pushed that flushes both, or the link goes on by
// itself when its wire takes more. (Not so where the queue may wait for the client, who must confirm something before a message
// of some size may go: another one may fit.) It never blocks on the client.
func (c *Connection) push(e *Envelope, policy Policy) Link {
	c.mu.Lock()
	if l := c.link; l != nil && c.state.Outbox.queued() > 0 && !c.state.Outbox.fits(e.size(), c.hub().config.Outbox) {
		// What fills it may only wait for somebody who flushes it with more.
		c.mu.Unlock()
		l.Flush()
		c.mu.Lock()
	}
	if c.state.Phase == PhaseClosed {
		c.mu.Unlock()
		c.dropNew(e, DropClosed)
		return nil
	}
	pending := c.numbering == nil && c.state.Outbox.queued() > 0
	if policy == Conflate && c.conflateLocked(e) {
		return c.pushedLocked(e, pending)
	}
	if !c.makeRoomLocked(e, policy) {
		if policy != CloseSlow {
			c.mu.Unlock()
			c.dropNew(e, DropOverflowNewest)
			return nil
		}
		link := c.closeLocked(NewClose(CauseSlow))
		c.mu.Unlock()
		c.dropNew(e, DropOverflowClose)
		c.closeLink(link, NewClose(CauseSlow))
		return nil
	}
	c.applyLocked(Op{Kind: OpPush, Envelope: e})
	return c.pushedLocked(e, pending)
}

// conflateLocked puts e in the place of the queued message with its key, and reports whether there was one
// whose place is large enough. Where it is not, the old one goes all the same and e queues like any other.
func (c *Connection) conflateLocked(e *Envelope) bool {
	o := &c.state.Outbox
	i := o.find(e.key)
	if i < 0 {
		return false
	}
	if !o.fitsInPlace(i, e.size(), c.hub().config.Outbox) {
		c.dropLocked(i, DropConflated)
		return false
	}
	c.dropped(o.queue()[i], DropConflated)
	c.applyLocked(Op{Kind: OpConflate, Index: i, Envelope: e})
	return true
}

// pushedLocked ends a push that succeeded; pending: somebody flushes already. It unlocks.
func (c *Connection) pushedLocked(e *Envelope, pending bool) Link {
	if c.state.Phase == PhaseDetached {
		e.tally.detached.Add(1)
	}
	c.expectLocked(e)
	link := c.link
	c.mu.Unlock()
	if pending {
		return nil
	}
	return link
}

// makeRoomLocked reports whether the queue can take e, after dropping what the policy gives up for it.
func (c *Connection) makeRoomLocked(e *Envelope, policy Policy) bool {
	o := &c.state.Outbox
	if o.queued() == 0 {
		return true // idle, as a rule
	}
	bounds := c.hub().config.Outbox
	if o.fits(e.size(), bounds) {
		return true
	}
	c.dropExpiredLocked()
	if policy == DropOldest || policy == Conflate {
		for o.queued() > 0 && !o.fits(e.size(), bounds) {
			c.dropLocked(0, DropOverflowOldest)
		}
	}
	return o.fits(e.size(), bounds)
}

// dropExpiredLocked drops what has expired in the queue. It looks only when something may have: a full queue
// is pushed to often.
func (c *Connection) dropExpiredLocked() {
	if c.soonest == nil || time.Now().Before(*c.soonest) {
		return
	}
	c.soonest = nil
	for i := c.state.Outbox.queued() - 1; i >= 0; i-- {
		if e := c.state.Outbox.queue()[i]; e.expired() {
			c.dropLocked(i, DropExpired)
		} else {
			c.expectLocked(e)
		}
	}
}

// expectLocked notes when e, now queued, expires.
func (c *Connection) expectLocked(e *Envelope) {
	if x := &e.Message.Expires; !x.IsZero() && (c.soonest == nil || x.Before(*c.soonest)) {
		c.soonest = x
	}
}

// dropLocked drops the i-th message of the queue.
func (c *Connection) dropLocked(i int, r DropReason) {
	c.dropped(c.state.Outbox.queue()[i], r)
	c.applyLocked(Op{Kind: OpDrop, Index: i, Reason: r})
}

// dropped counts a queued message that is dropped. The detached count goes first: see tally.
func (c *Connection) dropped(e *Envelope, r DropReason) {
	if c.state.Phase == PhaseDetached {
		e.tally.detached.Add(-1)
	}
	c.dropNew(e, r)
}

// dropNew counts a message that never got into the outbox, or left it without a trace.
func (c *Connection) dropNew(e *Envelope, r DropReason) {
	e.tally.drop(r)
	c.hub().metrics.dropped(r, 1)
}

// Take hands the link what may be written now: at least one unit if there is one, and more while they add
// up to no more than max bytes. It reports false when there is nothing, or l is not the connection's link.
// The link writes the bytes in order and reports units with Written.
func (c *Connection) Take(l Link, b *Batch, max int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.reset()
	if c.link != l || c.state.Phase == PhaseClosed && !c.state.Close.Cause.orderly() {
		return false
	}
	if c.first != nil {
		b.begin(*c.first)
		c.putFirstLocked(nil)
	}
	numbered := c.dialect.numbered
	for {
		e := c.nextLocked(len(b.Bytes), max)
		if e == nil {
			break
		}
		c.sent++
		b.add(numbered, c.sent, e.shared)
	}
	b.Last = c.sent == c.state.Sequence && c.state.Outbox.queued() == 0
	return len(b.Bytes) > 0
}

// nextLocked returns the message behind c.sent, or nil when there is none, when it does not fit into max
// bytes behind the taken ones, or when the tail is full. A message gets its number here: when it leaves the
// queue.
func (c *Connection) nextLocked(taken, max int) *Envelope {
	o := &c.state.Outbox
	if c.sent < c.state.Sequence { // a tail to write again
		e := o.at(int(c.sent - c.state.Acked))
		if taken > 0 && taken+len(e.shared) > max {
			return nil
		}
		return e
	}
	for o.queued() > 0 {
		e := o.next()
		if e.expired() {
			c.dropLocked(0, DropExpired)
			continue
		}
		if taken > 0 && taken+len(e.shared) > max || c.tailFullLocked(e) {
			return nil
		}
		c.applyLocked(Op{Kind: OpNumber})
		return e
	}
	c.soonest = nil // it points into a message, which need not live longer
	return nil
}

// tailFullLocked reports whether the client must confirm something before e may go, and sees to it that
// the connection does not wait forever.
func (c *Connection) tailFullLocked(e *Envelope) bool {
	if c.numbering == nil {
		return false
	}
	o, config := &c.state.Outbox, &c.hub().config
	window := config.Window
	if o.tail == 0 || int(o.tail) < window.Messages && o.tailBytes+e.size() <= window.Bytes {
		return false
	}
	n := c.numbering
	if n.patient.IsZero() {
		n.patient = time.Now().Add(config.AckTimeout)
	}
	if n.timer == nil && c.state.Phase == PhaseAttached {
		c.startTimerLocked(c.patienceLocked(), CauseAckStuck)
	}
	return true
}

// returnPatience is how long a client that comes back may take to confirm something, however long its tail was full: its first acks
// come within a second or two of what is written again.
const returnPatience = 5 * time.Second

// patienceLocked is how long the tail may still be full. Who comes back when that is over has returnPatience, but not over and over: a link
// that was lost in time can be resumed for as long as the resume window, and no longer.
func (c *Connection) patienceLocked() time.Duration {
	config := &c.hub().config
	left := time.Until(c.numbering.patient)
	again := min(returnPatience, config.AckTimeout)
	return max(left, min(again, left+config.ResumeWindow+again))
}

// Written says that the link's wire took that many more units whole, in the order of Take.
func (c *Connection) Written(l Link, units int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return
	}
	if n := c.numbering; n != nil {
		skipped := min(units, n.skip)
		n.skip -= skipped
		units -= skipped
	}
	c.linkWritten += uint64(units)
	if c.linkWritten <= c.state.Written {
		return
	}
	c.wroteLocked(c.linkWritten)
	if c.numbering == nil {
		c.applyLocked(Op{Kind: OpAck, Sequence: c.linkWritten})
	} else {
		c.applyLocked(Op{Kind: OpWritten, Sequence: c.linkWritten})
	}
}

// wroteLocked counts the messages up to a sequence id as written. The op that says so follows.
func (c *Connection) wroteLocked(sequence uint64) {
	for n := c.state.Written + 1; n <= sequence; n++ {
		t := c.state.Outbox.at(int(n - c.state.Acked - 1)).tally
		if c.state.Phase == PhaseDetached {
			t.detached.Add(-1)
		}
		t.wrote(c.numbering != nil)
	}
	c.hub().metrics.wrote(int(sequence - c.state.Written))
}

// Ack says that the client has every message up to a sequence id. An id that was confirmed before is
// ignored; one that was never given is ErrAckForged.
func (c *Connection) Ack(sequence uint64) error {
	link, err := c.ack(sequence)
	if link != nil {
		link.Flush() // the tail has room again
	}
	return err
}

func (c *Connection) ack(sequence uint64) (Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.Phase == PhaseClosed && (c.link == nil || !c.state.Close.Cause.orderly()):
		return nil, ErrClosed // nothing is left to confirm
	case c.numbering == nil || sequence > c.state.Sequence:
		return nil, fmt.Errorf("%w: %d, sent up to %d", ErrAckForged, sequence, c.state.Sequence)
	case sequence <= c.state.Acked:
		return nil, nil
	}
	if sequence > c.state.Written { // the ack overtook the link's report
		c.wroteLocked(sequence)
	}
	if sequence > c.sent {
		// The client, back on a new link, confirms what it got on the old one: the new link need not carry
		// it again. What it has taken already and not yet reported is counted by now.
		c.numbering.skip += int(c.sent - c.linkWritten)
		c.sent, c.linkWritten = sequence, sequence
	}
	for _, e := range c.state.Outbox.live()[:sequence-c.state.Acked] {
		e.tally.ack()
	}
	c.hub().metrics.acked(int(sequence - c.state.Acked))
	c.applyLocked(Op{Kind: OpAck, Sequence: sequence})
	c.numbering.patient = time.Time{} // the tail moves
	if c.state.Phase == PhaseAttached {
		c.stopTimerLocked()
	}
	return c.link, nil
}
