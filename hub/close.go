package hub

import (
	"context"

	"github.com/connhub/connhub/hub/cause"
)

// closeDetached closes the connection unless its client has come back.
func (c *Connection) closeDetached(how cause.CloseStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseDetached && !c.state.isElsewhere() {
		c.closeLocked(how) // there is no link
	}
}

// Close ends the connection. When Close returns, the connection matches nothing any more. Its link
// tells the client.
//
// If a backend closes the connection, or the hub shuts down, queued messages still go out first, as
// far as the client takes them in time. Otherwise they are dropped. Close reports false if the
// connection was closed already.
func (c *Connection) Close(how cause.CloseStatus) bool {
	c.mu.Lock()
	open := c.state.Phase != PhaseClosed
	link := c.closeLocked(how)
	c.mu.Unlock()
	c.closeLink(link, how)
	return open
}

// closeLink ends the link of a connection that was closed. If closed connections hold too much
// already, it cuts the link without a goodbye, which frees the link's messages at once. A client
// that does not read would keep them until the close times out.
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

// closeLocked ends the connection. It returns the link that the caller must close, without the
// lock, or nil.
func (c *Connection) closeLocked(how cause.CloseStatus) Link {
	if c.state.isElsewhere() {
		c.hub().moves.noteClose(c, how)
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
	keys := h.keysOf(&c.state.Identity, c.state.Groups)
	c.applyLocked(Op{Kind: OpClose, Close: how})
	c.namespace.delistLocked(c)
	h.interest.removeKeys(keys)
	h.releaseConnection(c.namespace, &c.state.Identity)
	if n := c.numbering; n != nil {
		// A move may have kept links from the turn.
		n.turn.wakeAll()
	}

	switch {
	case c.link == nil:
		c.endClosedLocked()
	case !how.Cause.Orderly():
		// The link is about to write the messages that it has taken. They count when it reports how
		// far it came.
		for n := c.state.Outbox.queueLen(); n > 0; n-- {
			c.dropLocked(n-1, cause.DropClosed)
		}
		c.putFirstLocked(nil)
		c.loseWrittenLocked()
		// Messages that the link has taken and not yet written count until the link has ended. The
		// share is rounded down: a message with many holders leaves the budgets once.
		c.leaving = int64(c.weighKeptLocked().share)
		c.namespace.countLeaving(c.leaving)
	}
	return c.link
}

// endClosedLocked drops the messages that a closed connection has not written. Its link is gone.
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

// loseWrittenLocked counts messages that are written and not confirmed as lost. The connection is
// closed, so no ack counts any more.
func (c *Connection) loseWrittenLocked() {
	if c.state.Written == c.state.Acked {
		return
	}
	for _, e := range c.state.Outbox.liveEntries()[:c.state.Written-c.state.Acked] {
		e.tally.countLost()
	}
	// For the state, lost messages are the same as confirmed ones.
	c.applyLocked(Op{Kind: OpAck, Sequence: c.state.Written})
}

// Ended returns how the connection was closed. It returns false if the connection is open.
func (c *Connection) Ended() (cause.CloseStatus, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Close == nil {
		return cause.CloseStatus{}, false
	}
	return *c.state.Close, true
}

// Closed is the result of CloseConnections.
type Closed struct {
	// Matched counts the connections that matched the target, Closed those that this call closed.
	// The rest were closed already.
	Matched, Closed int
}

// CloseConnections closes the connections that match. If more than max match, and max is not 0, it
// closes none and returns ErrTooManyMatched. It returns the error of ctx when ctx ends meanwhile.
func (h *Hub) CloseConnections(
	ctx context.Context, namespace string, t *Target, how cause.CloseStatus, max int,
) (Closed, error) {
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
