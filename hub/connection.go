package hub

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/prefetch"
)

// Connection is one client that backends address. All methods may be called concurrently.
//
// Two numbers beside those of its State say how far its messages have come on the link, in sequence
// ids:
//
//	Acked ≤ Written ≤ Sequence   Acked ≤ sent ≤ Sequence   linkWritten ≤ sent
//
// After a resume the hub gives the tail to the new link: sent and linkWritten start over at Acked.
// Written keeps the count of all links together, so a message counts as written once.
//
// A hub holds hundreds of thousands, most of them idle. A Connection takes 384 bytes: a size that
// Go allocates exactly, in whole cache lines. The next sizes are 352 and 416. The fields that a
// delivery reads come first, in hotBytes: in a fan-out to thousands every cache line of them comes
// from memory.
type Connection struct {
	// mu guards all fields that are not said to be fixed.
	mu        sync.Mutex
	namespace *namespace // fixed at Attach
	dialect   *dialect   // fixed at Attach
	carriage
	state State
	places
}

// A move to another hub takes State along and drops all the rest. The rest stands in two structs,
// because only the carriage has room in hotBytes. Both are guarded by Connection.mu.

// carriage says how far the messages have come on the link.
type carriage struct {
	// link is set in PhaseAttached, and in PhaseClosed while it carries the rest; otherwise nil.
	link Link
	// sent is the last sequence id that was given to the link, linkWritten the last that it has
	// reported.
	sent, linkWritten uint64
	// numbering is nil if the protocol is not numbered.
	numbering *numbering
	// soonest is no later than the first expiry in the queue; nil: nothing in the queue expires.
	soonest *time.Time
	// first is for the link to write before messages: greeting and replies; nil: nothing.
	first *[]byte
}

// places says where this hub finds and counts the connection.
type places struct {
	// userEntry is in namespace.users; nil if the client is anonymous.
	userEntry *membership
	// memberships are in namespace.groups, parallel to state.Groups.
	memberships []*membership

	// leaving is how many bytes holdings leave out: the connection is closed, its link has not
	// ended.
	leaving int64
	// roundTrip is in nanoseconds; 0: not measured.
	roundTrip atomic.Int64
}

// numbering holds the fields that only connections with numbered messages need. Guarded by
// Connection.mu.
type numbering struct {
	// skip is how many units the link has yet to report that an ack has counted already.
	skip int
	// timer is that of the resume window, or of a full tail; nil when neither runs.
	timer *time.Timer
	// patient is the deadline for an ack while the tail is full; zero: the tail was not full since
	// the last ack.
	patient time.Time
	turn    turn
}

const (
	cacheLine = 64
	// hotBytes is how much of a Connection a delivery reads.
	hotBytes = 3 * cacheLine
)

// Prefetch has the processor fetch the memory that Take and Written will read: in step 0 the
// Connection itself, in step 1 the memory that it points to.
func (c *Connection) Prefetch(step int) {
	if step > 0 {
		prefetch.LineBehind(unsafe.Pointer(&c.state.Outbox)) // its entries
		return
	}
	for at := uintptr(0); at < hotBytes; at += cacheLine {
		prefetch.Line(unsafe.Add(unsafe.Pointer(c), at))
	}
}

func (c *Connection) hub() *Hub { return c.namespace.hub }

// Protocol returns the protocol of the connection's links.
func (c *Connection) Protocol() Protocol { return c.dialect.Protocol }

// ID returns the connection's id.
func (c *Connection) ID() ConnectionID { return c.state.ID }

// Identity returns the facts of the connection that never change.
func (c *Connection) Identity() Identity { return c.state.Identity }

// key implements named.
func (c *Connection) key() string { return string(c.state.ID) }

// applyLocked makes a change and tells the observers. It reports whether an observer has queued op,
// which is an event. It changes the budgets if the outbox's list grows or shrinks; most changes
// leave the list as it is.
func (c *Connection) applyLocked(op Op) (queued bool) {
	before := cap(c.state.Outbox.entries)
	c.state.applyOp(&op)
	if c.state.stage == transfer.Moving {
		c.hub().moves.recordChange(c, &op)
	}
	if after := cap(c.state.Outbox.entries); after != before {
		if more := listWeight(after) - listWeight(before); more != 0 {
			c.namespace.countHeld(more)
		}
	}
	if o := &c.hub().observers; o.seen&(1<<op.Kind) != 0 && c.state.stage != transfer.Shadow {
		return o.tellAll(c, &op)
	}
	return false
}

// Bind gives the connection a link: the first, or a new link for a client that resumes, also while
// the old link still looks alive. It calls Flush of the link before it returns. It returns
// ErrClosed if the connection is closed, and transfer.ErrMoving while it moves. After an error the
// link is not used, and must not call Unbind.
func (c *Connection) Bind(l Link) error { return c.bindLink(l, nil) }

// bindLink is Bind for a client that resumes by r; nil: the client does not resume.
func (c *Connection) bindLink(l Link, r *Resume) error {
	old, err := c.attachLink(l, r)
	if err != nil {
		return err
	}
	if old != nil {
		// The client has left the old link, so a goodbye is pointless.
		old.Close(cause.CloseStatus{Cause: cause.Lost})
	}
	l.Flush()
	return nil
}

// attachLink is bindLink under the lock. It returns the link that l replaces, or nil. A protocol
// that panics leaves the connection as it was.
func (c *Connection) attachLink(l Link, r *Resume) (old Link, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.bindError(); err != nil {
		return nil, err
	}
	if r != nil && r.isOvertakenLocked() {
		return nil, ErrResumeRefused
	}
	op, token := Op{Kind: OpAttach}, ""
	if c.numbering != nil {
		op.Resumption, token = c.state.Resumption.nextGreeting(r)
	}
	greeting := c.dialect.AppendGreeting(nil, c.infoLocked(), token)

	old = c.link
	c.endDetachedLocked()
	c.stopTimerLocked()
	c.link = l
	c.sent, c.linkWritten = c.state.Acked, c.state.Acked
	c.applyLocked(op)
	c.putFirstLocked(&greeting)
	if n := c.numbering; n != nil {
		n.skip = 0
		// The client may never read enough to fill the tail again, so the old deadline must run on.
		if !n.patient.IsZero() {
			c.startTimerLocked(c.patienceLocked(), cause.AckStuck)
		}
	}
	// This must precede the unlock: Shutdown must not close the connection and find no link to wait
	// for.
	c.hub().countLinks(+1)
	return old, nil
}

// Unbind records that a link's wire is gone, and how. Each link that was bound must call it once.
//
// If the wire was merely lost and the protocol can resume, the connection waits for its client. Any
// different connection is closed. Unbind does nothing for a link that was replaced.
func (c *Connection) Unbind(l Link, how cause.CloseStatus) {
	defer c.hub().countLinks(-1)
	closeSurplus(c.unbindLink(l, how))
}

// closeSurplus closes detached connections above the bounds of their users and addresses.
func closeSurplus(all []*Connection) {
	for _, surplus := range all {
		surplus.closeDetached(cause.DetachedLimit.CloseStatus())
	}
}

// unbindLink is Unbind under the lock. It returns the connections that the caller must close so
// that this one may wait.
func (c *Connection) unbindLink(l Link, how cause.CloseStatus) (surplus []*Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return nil
	}
	c.link = nil
	switch {
	case c.state.Phase == PhaseClosed:
		c.endClosedLocked()
		return nil
	case c.state.isGone():
		return nil // the end of the move detaches it, at either hub
	}
	if c.numbering == nil || !how.Cause.Resumable() || c.hub().Leaving() {
		c.closeLocked(how)
		return nil
	}
	c.stopTimerLocked()
	c.applyLocked(Op{Kind: OpDetach, Resumption: c.state.Resumption.withDetachedAt(time.Now())})
	return startWaitLocked(c)
}

// startWaitLocked begins the wait of a detached connection for its client, counted from DetachedAt.
// It returns the connections that the caller must close so that this one may wait. c.mu must be
// held.
func startWaitLocked(c *Connection) (surplus []*Connection) {
	c.countDetachedLocked(+1)
	wait := c.hub().config.ResumeWindow - time.Since(c.state.Resumption.DetachedAt)
	if c.expiresWithin(wait) {
		c.startTimerLocked(time.Until(c.state.Claims.Expires), cause.TokenExpired)
	} else {
		c.startTimerLocked(wait, cause.ResumeExpired)
	}
	return c.hub().detached.addDetached(c)
}

// expiresWithin reports whether the client's claims expire within d.
func (c *Connection) expiresWithin(d time.Duration) bool {
	claims := c.state.Claims
	return claims != nil && !claims.Expires.IsZero() && time.Until(claims.Expires) < d
}

// endDetachedLocked ends the wait of a detached connection, by a resume, a close or a move. It does
// nothing if the wait is over.
func (c *Connection) endDetachedLocked() {
	if c.state.Phase == PhaseDetached && c.hub().detached.removeDetached(c) {
		c.countDetachedLocked(-1)
	}
}

// countDetachedLocked moves messages that were never written between "queued" and "queued,
// detached" in the receipts: n is 1 or -1.
func (c *Connection) countDetachedLocked(n int32) {
	for _, e := range c.unwrittenLocked() {
		e.tally.detached.Add(n)
	}
}

// unwrittenLocked returns the messages that no link has ever written whole.
func (c *Connection) unwrittenLocked() []*Envelope {
	return c.state.Outbox.liveEntries()[c.state.Written-c.state.Acked:]
}

// SetRoundTrip records the round-trip time of a ping.
func (c *Connection) SetRoundTrip(d time.Duration) { c.roundTrip.Store(int64(d)) }

// Info is the state of a connection at one moment.
type Info struct {
	Identity

	// Groups are in the order of joining.
	Groups []string
	// Phase is where the connection is in its life.
	Phase Phase
	// QueuedMessages have not been given to a link yet.
	QueuedMessages int
	// QueuedBytes are those of QueuedMessages on the wire, without sequence ids.
	QueuedBytes int64
	// UnackedMessages have a sequence id and are not confirmed.
	UnackedMessages int
	// LastAcked is the last sequence id that is confirmed.
	LastAcked uint64
	// RoundTrip is that of the latest ping; 0: not measured yet.
	RoundTrip time.Duration
	// Hub is the hub that holds the connection.
	Hub ID
	// Epoch counts the hubs that have held the connection, from 1. While it moves, two hubs may
	// show it: the higher epoch counts.
	Epoch uint32
}

// Info returns the connection's present state.
func (c *Connection) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.infoLocked()
}

func (c *Connection) infoLocked() Info {
	return Info{
		Identity:        c.state.Identity,
		Groups:          slices.Clone(c.state.Groups),
		Phase:           c.state.Phase,
		QueuedMessages:  c.state.Outbox.queueLen(),
		QueuedBytes:     c.state.Outbox.wireBytes(),
		UnackedMessages: int(c.state.Outbox.tail),
		LastAcked:       c.state.Acked,
		RoundTrip:       time.Duration(c.roundTrip.Load()),
		Hub:             c.hub().config.ID,
		Epoch:           c.state.Epoch,
	}
}

// String names the connection in errors and logs.
func (c *Connection) String() string { return fmt.Sprintf("connection %s", c.state.ID) }
