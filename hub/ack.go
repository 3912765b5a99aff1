package hub

import (
	"fmt"
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// tailFullLocked reports whether the client must confirm something before e may go, and sees to it that
// the connection does not wait forever.
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

// Ack says that the client has every message up to a sequence id. An id that was confirmed before is
// ignored; one that was never given is ErrAckForged.
func (c *Connection) Ack(sequence uint64) error {
	link, err := c.confirmSequence(sequence)
	if link != nil {
		link.Flush() // the tail has room again
	}
	return err
}

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
		// The client, back on a new link, confirms what it got on the old one: the new link need not carry
		// it again. What it has taken already and not yet reported is counted by now.
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
