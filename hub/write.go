package hub

import "github.com/connhub/connhub/hub/cause"

// Take fills b with messages for the link to write: at least one unit if there is one, and more
// while they add up to max bytes or less. It reports false when there is nothing, or l is not the
// connection's link. The link writes the bytes in order and reports units with Written.
func (c *Connection) Take(l Link, b *Batch, max int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.emptyBatch()
	if c.link != l || c.state.Phase == PhaseClosed && !c.state.Close.Cause.Orderly() {
		return false
	}
	if c.first != nil {
		b.appendFirst(*c.first)
		c.putFirstLocked(nil)
	}
	numbered := c.dialect.numbered
	for !c.state.isFrozen() {
		e := c.nextEnvelopeLocked(len(b.Bytes), max)
		if e == nil {
			break
		}
		c.sent++
		b.appendUnit(numbered, c.sent, e.shared)
	}
	b.Last = c.sent == c.state.Sequence && c.state.Outbox.queueLen() == 0
	return len(b.Bytes) > 0
}

// nextEnvelopeLocked returns the message behind c.sent. It returns nil when there is none, when it
// does not fit into max bytes behind the taken ones, or when the tail is full. A message gets its
// number here: when it leaves the queue.
func (c *Connection) nextEnvelopeLocked(taken, max int) *Envelope {
	o := &c.state.Outbox
	if c.sent < c.state.Sequence { // a tail to write again
		e := o.entryAt(int(c.sent - c.state.Acked))
		if taken > 0 && taken+len(e.shared) > max {
			return nil
		}
		return e
	}
	for o.queueLen() > 0 {
		e := o.firstQueued()
		if e.isExpired() {
			c.dropLocked(0, cause.DropExpired)
			continue
		}
		if taken > 0 && taken+len(e.shared) > max || c.isTailFullLocked(e) {
			return nil
		}
		c.applyLocked(Op{Kind: OpNumber})
		return e
	}
	// It points into a message, which need not live longer.
	c.soonest = nil
	return nil
}

// Written records that the link's wire took that many more units whole, in the order of Take.
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
	c.countWrittenLocked(c.linkWritten)
	if c.numbering == nil {
		c.applyLocked(Op{Kind: OpAck, Sequence: c.linkWritten})
	} else {
		c.applyLocked(Op{Kind: OpWritten, Sequence: c.linkWritten})
	}
}

// countWrittenLocked counts the messages up to a sequence id as written. The caller then applies
// the op that says so.
func (c *Connection) countWrittenLocked(sequence uint64) {
	for n := c.state.Written + 1; n <= sequence; n++ {
		t := c.state.Outbox.entryAt(int(n - c.state.Acked - 1)).tally
		if c.state.Phase == PhaseDetached {
			t.detached.Add(-1)
		}
		t.countWrite(c.numbering != nil)
	}
	c.hub().metrics.addWritten(int(sequence - c.state.Written))
}
