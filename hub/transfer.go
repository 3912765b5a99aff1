package hub

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/transfer"
)

// Moves is a hub's part in moves of connections between hubs. Only resumable connections move.
//
// Problem: a connection must have a single owner at any time, no message of it may be lost, doubled
// or reordered, and a move that fails must leave the connection as it was.
//
// Outline, of a move from the old hub to the new hub. The caller carries snapshot and changes:
//
//	old: Freeze  → snapshot  new: Adopt   the old hub is the owner, but the link rests
//	old: Changes → ops       new: Apply   again and again: sends, joins, acks meanwhile
//	old: Seal    → ops       new: Apply   it matches nothing; its owner is in doubt
//	                         new: Commit  the new hub is the owner; the client can resume there
//	old: Release                          its link is closed, a tombstone stays
//
// If a step fails, the new hub calls Abandon and then the old hub Thaw: the connection goes on at
// the old hub. After Seal the old hub calls Release or Thaw only if the new hub has said which.
//
// Invariants:
//   - At the old hub the connection is Live or Moving while it is in the tables. After Seal a push
//     finds it only by a match from before; then Delivery.Strayed names it.
//   - The state of the shadow is that of the connection as of the last change that was applied.
//   - The old hub has its references (Interest) until Release, the new hub from Adopt or Apply on.
//     Likewise for the budgets that each message counts in. If a budget has no room, Adopt or Apply
//     refuses.
//
// All methods may be called concurrently, but for a connection by a single goroutine at a time.
type Moves struct {
	hub *Hub // static

	mu     sync.Mutex // a leaf: Connection.mu may be held
	away   map[ConnectionID]*departure
	shadow map[ConnectionID]*Connection
	graves transfer.Tombstones
	ended  time.Time // the end of the latest move from this hub or to it
}

// departure is a connection on its way to a different hub. Guarded by Connection.mu, but for the
// fields that are static.
type departure struct {
	connection *Connection // static
	to         ID          // static

	changes transfer.Backlog[Op] // since the snapshot; bounded by an outbox's payload
	// ended is how the connection was closed after Seal; nil: it was not.
	ended *cause.CloseStatus
}

// mostTombstones bounds the tombstones: all connections of a large hub may move.
const mostTombstones = 1 << 20

func newMoves() *Moves {
	return &Moves{
		away:   make(map[ConnectionID]*departure),
		shadow: make(map[ConnectionID]*Connection),
		graves: transfer.Tombstones{Most: mostTombstones},
	}
}

// Freeze begins a move to a hub and returns the connection as it is. It waits until the client's
// present command is done, or ctx is done. From then on the link is not read and gets no messages;
// sends go on to queue. Errors: ErrConnectionNotFound; ErrResumeRefused: the connection is not
// resumable; transfer.ErrMoving; that of ctx.
func (m *Moves) Freeze(ctx context.Context, id ConnectionID, to ID) (*Snapshot, error) {
	c := m.hub.findAnywhere(id)
	if c == nil {
		return nil, ErrConnectionNotFound
	}
	made, err := m.freezeConnection(ctx, c, to)
	if err != nil {
		flushLink(c) // it got nothing meanwhile
	}
	return made, err
}

func (m *Moves) freezeConnection(ctx context.Context, c *Connection, to ID) (*Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.isGone():
		return nil, ErrConnectionNotFound
	case c.state.isFrozen():
		return nil, transfer.ErrMoving
	case c.numbering == nil || c.state.Phase == PhaseConnecting:
		return nil, ErrResumeRefused
	}
	d := &departure{connection: c, to: to}
	m.addDeparture(d)
	c.applyLocked(Op{Kind: OpMove, Stage: transfer.Moving})
	if err := awaitTurn(ctx, c); err != nil {
		m.thawLocked(d)
		return nil, err
	}
	if c.state.Phase == PhaseClosed {
		m.removeMove(c.state.ID)
		return nil, ErrConnectionNotFound
	}
	d.changes = transfer.Backlog[Op]{} // the snapshot has them
	return newSnapshot(&c.state, c.dialect.Protocol), nil
}

// awaitTurn waits until no command of the client is under way, or ctx is done. c.mu must be held;
// awaitTurn releases it while it waits.
func awaitTurn(ctx context.Context, c *Connection) error {
	for t := &c.numbering.turn; t.of != nil; {
		over := t.whenOver()
		c.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Changes returns the changes since the snapshot, or since the last call. Errors:
// transfer.ErrMoving: no move is under way; ErrClosed: the connection has ended here, and the move
// with it; transfer.ErrBehind.
func (m *Moves) Changes(id ConnectionID) ([]Op, error) {
	d, err := m.lockDeparture(id)
	if err != nil {
		return nil, err
	}
	defer d.connection.mu.Unlock()
	return d.takeChanges()
}

// Seal returns the last changes. From then on the connection matches nothing here, and its
// tombstone names the new hub. Reads still show it until Release. Errors as of Changes; then it is
// not sealed.
func (m *Moves) Seal(id ConnectionID) ([]Op, error) {
	d, err := m.lockDeparture(id)
	if err != nil {
		return nil, err
	}
	c := d.connection
	defer c.mu.Unlock()
	changes, err := d.takeChanges()
	if err != nil {
		return nil, err
	}
	c.stopTimerLocked()
	c.endDetachedLocked()
	c.namespace.delistLocked(c)
	c.applyLocked(Op{Kind: OpMove, Stage: transfer.Sealed})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.graves.Put(string(id), transfer.Tombstone{Hub: string(d.to), Epoch: c.state.Epoch + 1})
	return changes, nil
}

// Release lets go of a sealed connection, which the new hub has. Its link is closed with how. It
// returns how the connection was closed here since Seal, or nil: the caller tells the new hub. The
// end of this hub does not count.
// Error: transfer.ErrMoving: the connection is not sealed.
func (m *Moves) Release(id ConnectionID, how cause.CloseStatus) (*cause.CloseStatus, error) {
	d, err := m.lockDeparture(id)
	if err != nil {
		return nil, err
	}
	c := d.connection
	if c.state.stage != transfer.Sealed {
		c.mu.Unlock()
		return nil, transfer.ErrMoving
	}
	endTallies(&c.state)
	link := c.link
	c.putFirstLocked(nil)
	c.link, c.soonest = nil, nil
	m.hub.interest.removeKeys(m.hub.keysOf(&c.state.Identity, c.state.Groups))
	c.applyLocked(Op{Kind: OpMove, Stage: transfer.Moved, Close: how})
	c.numbering.turn.wakeAll()
	c.dialect.connections.Dec()
	m.hub.metrics.closes[how.Cause].Inc()
	m.hub.releaseConnection(c.namespace, &c.state.Identity)
	m.removeMove(c.state.ID)
	c.mu.Unlock()
	if link != nil {
		link.Close(how)
	}
	return d.ended.EndOfClient(), nil
}

// endTallies counts that this hub has no part any more in the fate of the messages.
func endTallies(s *State) {
	written := int(s.Written - s.Acked)
	for i, e := range s.Outbox.liveEntries() {
		if i < written {
			e.tally.countLost()
		} else {
			e.tally.countMoved()
		}
	}
}

// Lose ends a sealed connection here, because the new hub is dead or calls for it are lost: neither
// hub can go on with it. It is closed for cause.HubLost, or as it was closed since Seal. Lose does
// nothing if the connection is not sealed.
func (m *Moves) Lose(id ConnectionID) {
	d, err := m.lockDeparture(id)
	if err != nil {
		return
	}
	c, how := d.connection, cause.HubLost.CloseStatus()
	if c.state.stage != transfer.Sealed {
		c.mu.Unlock()
		return
	}
	if d.ended != nil {
		how = *d.ended
	}
	m.unsealLocked(c)
	link := c.closeLocked(how)
	m.removeMove(id)
	c.mu.Unlock()
	c.closeLink(link, how)
}

// Thaw ends a move that has failed: the connection goes on here. After Seal the new hub must have
// said that it never took it. Error: transfer.ErrMoving: no move is under way.
func (m *Moves) Thaw(id ConnectionID) error {
	d, err := m.lockDeparture(id)
	if err != nil {
		return err
	}
	c := d.connection
	surplus := m.thawLocked(d)
	c.mu.Unlock()
	closeSurplus(surplus)
	switch {
	case d.ended != nil:
		c.Close(*d.ended)
	case m.hub.Leaving():
		c.Close(cause.Cause(m.hub.closing.Load()).CloseStatus())
	default:
		flushLink(c)
	}
	return nil
}

// flushLink has the link write, if there is a link.
func flushLink(c *Connection) {
	c.mu.Lock()
	link := c.link
	c.mu.Unlock()
	if link != nil {
		link.Flush()
	}
}

// thawLocked ends a move under the connection's lock. It returns connections that must go for it to
// wait.
func (m *Moves) thawLocked(d *departure) (surplus []*Connection) {
	c := d.connection
	defer m.removeMove(c.state.ID)
	sealed := c.state.stage == transfer.Sealed
	switch {
	case sealed:
		m.unsealLocked(c)
	case c.state.isFrozen():
		c.applyLocked(Op{Kind: OpMove, Stage: transfer.Live})
	}
	c.numbering.turn.wakeAll()
	if !sealed {
		return nil
	}
	if c.link != nil {
		if n := c.numbering; !n.patient.IsZero() {
			c.startTimerLocked(c.patienceLocked(), cause.AckStuck)
		}
		return nil
	}
	if c.state.Phase == PhaseAttached {
		detached := c.state.Resumption.withDetachedAt(time.Now())
		c.applyLocked(Op{Kind: OpDetach, Resumption: detached})
	}
	return startWaitLocked(c)
}

// unsealLocked puts a sealed connection back into the tables. Connection.mu must be held.
func (m *Moves) unsealLocked(c *Connection) {
	c.applyLocked(Op{Kind: OpMove, Stage: transfer.Live})
	m.mu.Lock()
	m.graves.Remove(string(c.state.ID))
	m.mu.Unlock()
	c.namespace.enlistLocked(c)
}

// Close closes a connection that a different hub has closed while it was on its way here. The
// connection is Live or Moving. If it is Sealed, on its way to the next hub, Release tells of the
// close. Otherwise Close does nothing.
func (m *Moves) Close(id ConnectionID, how cause.CloseStatus) {
	if c := m.findInAnyStage(id); c != nil {
		c.Close(how)
	}
}

// Standing reports whether this hub owns a connection, and its client may have the connection back:
// proof is the hash (SHA-256) of a token that Hub.Resume accepts. Else at is the hub that the
// tombstone names; empty: there is none. isProven says that the token is right; the connection may
// also be sealed here, or a shadow.
func (m *Moves) Standing(
	id ConnectionID, namespace string, proof [sha256.Size]byte,
) (here, isProven bool, at ID) {
	if c := m.findConnection(namespace, id); c != nil {
		isProven, _ = (&Resume{Connection: c, proven: proof}).showsToken()
	}
	if _, err := m.hub.findConnection(namespace, string(id)); err == nil {
		return isProven, isProven, ""
	}
	stone, _ := m.Tombstone(id)
	return false, isProven, ID(stone.Hub)
}

// Keys returns the keys that this hub must be known to want before it announces a move, or says
// that it has applied a change (Interest.ThenInForce). id is that of a shadow, or of a connection
// that this hub owns; otherwise there are none.
func (m *Moves) Keys(id ConnectionID) []Key {
	c := m.findInAnyStage(id)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.ID != id || c.state.Phase == PhaseClosed {
		return nil
	}
	return m.hub.keysOf(&c.state.Identity, c.state.Groups)
}

// HasRecent reports whether connections move from this hub or to it, or have done so in so long. A
// read of several hubs that has begun since may find such a connection at both hubs, or at neither.
func (m *Moves) HasRecent(within time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.away)+len(m.shadow) > 0 || time.Since(m.ended) <= within
}

// Tombstone returns where a connection went, and reports whether that is known.
func (m *Moves) Tombstone(id ConnectionID) (transfer.Tombstone, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.graves.Get(string(id))
}

// Matches reports whether a target matches a connection now, as Target.Only would. It also looks at
// connections that match no call at this hub: shadows, and those that are sealed.
func (m *Moves) Matches(namespace string, t *Target, id ConnectionID) bool {
	c, only := m.findConnection(namespace, id), *t
	only.Only = id
	return c != nil && only.matchesNow(c)
}

// findConnection returns a connection of this hub, in whatever stage, or nil.
func (m *Moves) findConnection(namespace string, id ConnectionID) *Connection {
	aside := m.findAside(id)
	if aside != nil && aside.namespace.name == namespace {
		return aside
	}
	c, _ := m.hub.findConnection(namespace, string(id))
	return c
}

// findInAnyStage is findConnection for any namespace.
func (m *Moves) findInAnyStage(id ConnectionID) *Connection {
	if c := m.findAside(id); c != nil {
		return c
	}
	return m.hub.findAnywhere(id)
}

// findAside returns a connection on the move: a shadow, or one that moves away. Otherwise it
// returns nil. The end of a move puts the connection into the tables before it is aside no more.
func (m *Moves) findAside(id ConnectionID) *Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.away[id]; d != nil {
		return d.connection
	}
	return m.shadow[id]
}

// findDeparture returns a connection that moves away, or nil.
func (m *Moves) findDeparture(id ConnectionID) *Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.away[id]; d != nil {
		return d.connection
	}
	return nil
}

// listDepartures returns the connections of a namespace that move away.
func (m *Moves) listDepartures(namespace string) (all []*Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.away {
		if d.connection.namespace.name == namespace {
			all = append(all, d.connection)
		}
	}
	return all
}

// listGroups returns the groups of the connections of a namespace that move away.
func (m *Moves) listGroups(namespace string) map[string]bool {
	groups := make(map[string]bool)
	for _, c := range m.listDepartures(namespace) {
		c.mu.Lock()
		for _, g := range c.state.Groups {
			groups[g] = true
		}
		c.mu.Unlock()
	}
	return groups
}

// lockDeparture returns a connection that moves away, with its lock.
func (m *Moves) lockDeparture(id ConnectionID) (*departure, error) {
	m.mu.Lock()
	d := m.away[id]
	m.mu.Unlock()
	if d == nil {
		return nil, transfer.ErrMoving
	}
	d.connection.mu.Lock()
	return d, nil
}

func (m *Moves) addDeparture(d *departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away[d.connection.state.ID] = d
}

// removeMove forgets a departure, or a shadow.
func (m *Moves) removeMove(id ConnectionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.away, id)
	delete(m.shadow, id)
	m.ended = time.Now()
}

// recordChange notes a change of a connection that moves away. Connection.mu is held.
func (m *Moves) recordChange(c *Connection, op *Op) {
	if op.Kind == OpMove {
		return
	}
	m.mu.Lock()
	d := m.away[c.state.ID]
	m.mu.Unlock()
	bytes := int64(0)
	if op.Envelope != nil {
		bytes = op.Envelope.payloadSize()
	}
	d.changes.Add(*op, bytes, m.hub.config.Outbox.Bytes)
}

// noteClose keeps how a connection was closed that may belong to a different hub. c may be from an
// earlier stay at this hub, for instance if its link ends late: that closes nothing.
func (m *Moves) noteClose(c *Connection, how cause.CloseStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.away[c.state.ID]; d != nil && d.connection == c && d.ended.EndOfClient() == nil {
		d.ended = &how
	}
}

// takeChanges returns the changes that wait. Connection.mu is held.
func (d *departure) takeChanges() ([]Op, error) {
	switch state := &d.connection.state; {
	case state.Phase == PhaseClosed:
		return nil, ErrClosed
	case state.stage != transfer.Moving:
		return nil, transfer.ErrMoving
	default:
		return d.changes.Take()
	}
}

// listAside returns the connections that hold bytes and are not in the tables.
func (m *Moves) listAside() []*Connection {
	m.mu.Lock()
	aside := slices.Collect(maps.Values(m.shadow))
	away := slices.Collect(maps.Values(m.away))
	m.mu.Unlock()
	for _, d := range away {
		d.connection.mu.Lock()
		if d.connection.state.stage == transfer.Sealed {
			aside = append(aside, d.connection)
		}
		d.connection.mu.Unlock()
	}
	return aside
}
