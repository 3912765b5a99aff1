package hub

import (
	"fmt"
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// isTailFullLocked reports whether the client must confirm a message before e may be written. If
// so, it starts the timer that closes the connection after AckTimeout.
func (c *Connection) isTailFullLocked(e *Envelope) bool {
	if c.numbering == nil {
		return false
	}
	o, config := &c.state.Outbox, &c.hub().config
	window := config.Window
	if o.tail == 0 || int(o.tail) < window.Messages && o.tailBytes+e.payloadSize() <= window.Bytes {
		return false
	}
	n := c.numbering
	if n.patient.IsZero() {
		n.patient = time.Now().Add(config.AckTimeout)
	}
	if n.timer == nil && c.state.Phase == PhaseAttached {
		c.startTimerLocked(c.patienceLocked(), cause.AckStuck)
	}
	return true
}

// Ack records that the client has every message up to and including a sequence id. It ignores an id
// that was confirmed before. It returns ErrAckForged for an id that was never given, and ErrClosed.
func (c *Connection) Ack(sequence uint64) error {
	link, err := c.confirmSequence(sequence)
	if link != nil {
		link.Flush() // the tail has room again
	}
	return err
}

// confirmSequence is Ack under the lock. It returns the link that the caller must flush, or nil.
func (c *Connection) confirmSequence(sequence uint64) (Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.isElsewhere(),
		c.state.Phase == PhaseClosed && (c.link == nil || !c.state.Close.Cause.Orderly()):
		return nil, ErrClosed // nothing is left to confirm
	case c.numbering == nil || sequence > c.state.Sequence:
		return nil, fmt.Errorf("%w: %d, sent up to %d", ErrAckForged, sequence, c.state.Sequence)
	case sequence <= c.state.Acked:
		return nil, nil
	}
	if sequence > c.state.Written { // the ack overtook the link's report
		c.countWrittenLocked(sequence)
	}
	if sequence > c.sent {
		// The client is back on a new link, and confirms messages of the old link. The new link
		// need not carry them again. If it has taken some of them and not reported them yet, they
		// count as written by now.
		c.numbering.skip += int(c.sent - c.linkWritten)
		c.sent, c.linkWritten = sequence, sequence
	}
	for _, e := range c.state.Outbox.liveEntries()[:sequence-c.state.Acked] {
		e.tally.countAck()
	}
	c.hub().metrics.addAcked(int(sequence - c.state.Acked))
	c.applyLocked(Op{Kind: OpAck, Sequence: sequence})
	c.numbering.patient = time.Time{} // the tail moves
	if c.state.Phase == PhaseAttached {
		c.stopTimerLocked()
	}
	return c.link, nil
}
