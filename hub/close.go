package hub

import (
	"context"

	"github.com/connhub/connhub/hub/cause"
)

// closeDetached is Close unless the client has come back.
func (c *Connection) closeDetached(how cause.CloseStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseDetached && !c.state.isElsewhere() {
		c.closeLocked(how) // there is no link
	}
}

// Close ends the connection: it matches nothing any more when Close returns, and its client is told on the
// way out. What is queued still goes out before that when a backend closes or the hub shuts down, as far as
// the client takes it in time; otherwise it is dropped. It reports false if the connection was closed already.
func (c *Connection) Close(how cause.CloseStatus) bool {
	c.mu.Lock()
	open := c.state.Phase != PhaseClosed
	link := c.closeLocked(how)
	c.mu.Unlock()
	c.closeLink(link, how)
	return open
}

// closeLink ends the link of a connection that was closed. If closed connections hold too much already, the link is cut without
// a goodbye, and what it holds is free at once: a client that does not read would keep it until the close times out.
func (c *Connection) closeLink(l Link, how cause.CloseStatus) {
	if l == nil {
		return
	}
	c.mu.Lock()
	if c.leaving > 0 && c.hub().holdings.leavesTooMuch() {
		how.Code = 0
	}
	c.mu.Unlock()
	l.Close(how)
}

// closeLocked ends the connection and returns the link for the caller to close, without the lock.
func (c *Connection) closeLocked(how cause.CloseStatus) Link {
	if c.state.isElsewhere() {
		c.hub().moves.noteClose(c.state.ID, how)
		return nil
	}
	if c.state.Phase == PhaseClosed {
		return nil
	}
	c.stopTimerLocked()
	c.endDetachedLocked()
	c.dialect.connections.Dec()
	h := c.hub()
	h.metrics.closes[how.Cause].Inc()
	c.applyLocked(Op{Kind: OpClose, Close: how})
	c.namespace.delistLocked(c)
	h.releaseConnection(c.namespace, &c.state.Identity)
	if n := c.numbering; n != nil {
		n.turn.wakeAll() // a move kept links from it
	}

	switch {
	case c.link == nil:
		c.endClosedLocked()
	case !how.Cause.Orderly():
		// What the link has taken is on its way, and counted when the link says how far it came.
		for n := c.state.Outbox.queueLen(); n > 0; n-- {
			c.dropLocked(n-1, cause.DropClosed)
		}
		c.putFirstLocked(nil)
		c.loseWrittenLocked()
		// What the link has taken and not yet written counts until it has ended.
		c.leaving = int64(c.weighKeptLocked().share) // rounded down: what many share leaves once
		c.namespace.countLeaving(c.leaving)
	}
	return c.link
}

// endLocked lets go of what a closed connection has not written. Its link is gone.
func (c *Connection) endClosedLocked() {
	c.loseWrittenLocked()
	unwritten := c.unwrittenLocked()
	for _, e := range unwritten {
		e.tally.countDrop(cause.DropClosed)
	}
	c.hub().metrics.addDropped(cause.DropClosed, len(unwritten))
	c.applyLocked(Op{Kind: OpEnd})
	c.namespace.countLeaving(-c.leaving)
	c.leaving = 0
	c.putFirstLocked(nil)
	c.link, c.soonest = nil, nil
}

// loseWrittenLocked lets go of what is written and not confirmed: the connection is closed, and no ack counts any more.
func (c *Connection) loseWrittenLocked() {
	if c.state.Written == c.state.Acked {
		return
	}
	for _, e := range c.state.Outbox.liveEntries()[:c.state.Written-c.state.Acked] {
		e.tally.countLost()
	}
	c.applyLocked(Op{Kind: OpAck, Sequence: c.state.Written}) // the state lets go of it as of what is confirmed
}

// Ended returns how the connection was closed, and whether it is.
func (c *Connection) Ended() (cause.CloseStatus, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Close == nil {
		return cause.CloseStatus{}, false
	}
	return *c.state.Close, true
}

// Closed tells what CloseConnections did.
type Closed struct {
	Matched int
	Closed  int // the others were closed already
}

// CloseConnections closes the connections that match. When more than max match, and max is not 0, it closes
// none and returns ErrTooManyMatched.
func (h *Hub) CloseConnections(ctx context.Context, namespace string, t *Target, how cause.CloseStatus, max int) (Closed, error) {
	matched := h.listMatching(namespace, t)
	r := Closed{Matched: len(matched)}
	if max > 0 && len(matched) > max {
		return r, ErrTooManyMatched
	}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if c.Close(how) {
			r.Closed++
		}
	}
	return r, nil
}
