package hub

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/transfer"
)

// Adopt takes a copy of another hub's connection as a shadow. The shadow matches nothing, counts in
// MaxConnections and the budgets, is in this hub's interest, and is not told to observers. It has
// the epoch from then on, and speaks the variant of a protocol that Snapshot.Protocol names.
// Errors, after which nothing is left of it:
//
//   - ErrShuttingDown, ErrTooManyConnections
//   - ErrResumeRefused: the protocol is not numbered
//   - transfer.ErrStale, ErrMoving, ErrMemory, ErrBroken
func (m *Moves) Adopt(s *Snapshot, epoch uint32, speaks Protocol) error {
	if !s.isWhole() || s.Protocol != variantName(speaks) {
		return transfer.ErrBroken
	}
	if _, resumable := speaks.(Numbered); !resumable {
		return ErrResumeRefused
	}
	ns, dialect, err := m.hub.reserveConnection(&Admission{
		Namespace: s.Namespace, User: s.User, RemoteAddress: s.RemoteAddress, Protocol: speaks,
	})
	if err != nil {
		return err
	}
	c := &Connection{namespace: ns, dialect: dialect}
	c.numbering = &numbering{}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := m.adoptLocked(c, s, epoch); err != nil {
		m.hub.releaseConnection(ns, &s.Identity)
		return err
	}
	m.hub.interest.addKeys(m.hub.keysOf(&c.state.Identity, c.state.Groups))
	dialect.connections.Inc()
	return nil
}

// adoptLocked fills in a shadow and counts its bytes. c is in no table yet.
func (m *Moves) adoptLocked(c *Connection, s *Snapshot, epoch uint32) error {
	if err := m.addShadow(c, s.ID, max(epoch, s.Epoch+1), epoch); err != nil {
		return err
	}
	state, bytes := s.restoreState(c.namespace, c.dialect)
	state.stage, state.Epoch = transfer.Shadow, epoch
	list := listWeight(state.Outbox.len())
	if !c.namespace.reserveBytes(bytes + list) {
		m.removeMove(s.ID)
		return transfer.ErrMemory
	}
	c.applyLocked(Op{Kind: OpAdopt, State: state})
	c.namespace.countHeld(-list) // applyLocked counts the list, too
	return nil
}

// addShadow reserves the id. The epoch of the move must not be below least.
func (m *Moves) addShadow(c *Connection, id ConnectionID, least, epoch uint32) error {
	_, there := c.namespace.connections.getValue(string(id))
	m.mu.Lock()
	defer m.mu.Unlock()
	stone, left := m.graves.Get(string(id))
	switch {
	case m.shadow[id] != nil:
		return transfer.ErrMoving
	case epoch < least, there, left && epoch <= stone.Epoch, m.away[id] != nil:
		return transfer.ErrStale
	}
	m.shadow[id] = c
	return nil
}

// lockShadow returns a shadow with its lock.
func (m *Moves) lockShadow(id ConnectionID) (*Connection, error) {
	m.mu.Lock()
	c := m.shadow[id]
	m.mu.Unlock()
	if c == nil {
		return nil, transfer.ErrMoving
	}
	c.mu.Lock()
	if c.state.stage != transfer.Shadow {
		c.mu.Unlock()
		return nil, transfer.ErrMoving
	}
	return c, nil
}

// Apply carries a change of the old hub out at the shadow, and in this hub's interest. Errors,
// after which the caller abandons the shadow: transfer.ErrMoving: there is none; ErrMemory;
// ErrBroken.
func (m *Moves) Apply(id ConnectionID, op Op) error {
	c, err := m.lockShadow(id)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if !isApplicable(&c.state, &op) {
		return transfer.ErrBroken
	}
	o := &c.state.Outbox
	if op.Envelope != nil {
		op.Envelope = restoreEnvelope(c.namespace, c.dialect, op.Envelope)
		if !c.namespace.reserveBytes(op.Envelope.tally.kept.Load()) {
			return transfer.ErrMemory
		}
	}
	switch op.Kind {
	case OpConflate:
		o.queueEntries()[op.Index].tally.countDrop(cause.DropConflated)
	case OpDrop:
		o.queueEntries()[op.Index].tally.countDrop(op.Reason)
	case OpWritten:
		countShadowWritten(&c.state, op.Sequence)
	case OpAck:
		countShadowWritten(&c.state, op.Sequence)
		for _, e := range o.liveEntries()[:op.Sequence-c.state.Acked] {
			e.tally.countAck()
		}
	case OpJoin:
		m.hub.interest.Add(Key{RouteGroup, c.state.Namespace, op.Group})
	case OpLeave:
		m.hub.interest.Remove(Key{RouteGroup, c.state.Namespace, op.Group})
	default: // no tally counts it, and no interest
	}
	c.applyLocked(op)
	return nil
}

// countShadowWritten counts messages as written that the old hub has written.
func countShadowWritten(s *State, sequence uint64) {
	for n := s.Written; n < sequence; n++ {
		s.Outbox.entryAt(int(n - s.Acked)).tally.countWrite(true)
	}
}

// isApplicable reports whether a frozen connection does such a change, and the change fits s.
func isApplicable(s *State, op *Op) bool {
	hasMessage := op.Envelope != nil && op.Envelope.Message != nil
	isQueued := uint(op.Index) < uint(s.Outbox.queueLen())
	switch op.Kind {
	case OpPush:
		return hasMessage
	case OpConflate:
		return hasMessage && isQueued
	case OpDrop:
		return isQueued
	case OpWritten:
		return s.Written <= op.Sequence && op.Sequence <= s.Sequence
	case OpAck:
		return s.Acked <= op.Sequence && op.Sequence <= s.Sequence
	case OpJoin:
		return len(s.Groups) < MaxGroups && !slices.Contains(s.Groups, op.Group)
	case OpLeave:
		return slices.Contains(s.Groups, op.Group)
	case OpDetach:
		return op.Resumption != nil
	default:
		return slices.Contains([]OpKind{OpGrant, OpEvent, OpDone}, op.Kind)
	}
}

// Commit makes this hub the owner: sends find the connection from then on, and it waits for its
// client. The caller waits until all hubs know of it (Interest.ThenInForce). Error:
// transfer.ErrMoving: there is no shadow.
func (m *Moves) Commit(id ConnectionID) error {
	c, err := m.lockShadow(id)
	if err != nil {
		return err
	}
	owned := c.state
	owned.stage = transfer.Live
	if owned.Phase == PhaseAttached {
		owned.Phase, owned.Resumption = PhaseDetached, owned.Resumption.withDetachedAt(time.Now())
	}
	c.applyLocked(Op{Kind: OpAdopt, State: &owned})
	c.sent, c.linkWritten = owned.Acked, owned.Acked
	c.namespace.enlistLocked(c)
	m.mu.Lock()
	delete(m.shadow, id)
	m.ended = time.Now()
	m.graves.Remove(string(id))
	m.mu.Unlock()
	surplus := startWaitLocked(c)
	c.mu.Unlock()
	closeSurplus(surplus)
	if m.hub.Leaving() {
		c.Close(cause.Cause(m.hub.closing.Load()).CloseStatus())
	}
	return nil
}

// Abandon lets go of a shadow: the move has failed. Error: transfer.ErrMoving: there is none.
func (m *Moves) Abandon(id ConnectionID) error {
	c, err := m.lockShadow(id)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	endTallies(&c.state)
	c.namespace.countHeld(-listWeight(cap(c.state.Outbox.entries)))
	m.hub.interest.removeKeys(m.hub.keysOf(&c.state.Identity, c.state.Groups))
	c.state.applyOp(&Op{Kind: OpMove, Stage: transfer.Moved}) // no observer has heard of it
	c.dialect.connections.Dec()
	m.hub.releaseConnection(c.namespace, &c.state.Identity)
	m.removeMove(id)
	return nil
}
