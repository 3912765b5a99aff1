package hub

import (
	"crypto/sha256"
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
// Two numbers beside those of its State say how far its messages have come on the link, in sequence ids:
//
//	Acked ≤ Written ≤ Sequence   Acked ≤ sent ≤ Sequence   linkWritten ≤ sent
//
// After a resume the new link is given the tail again: sent and linkWritten start over at Acked, while
// Written keeps what any link ever wrote, so that a message counts as written once.
//
// A hub holds hundreds of thousands, most of them idle: it takes 384 bytes, a size that Go allocates exactly, in
// whole cache lines. The next ones are 352 and 416. What a delivery looks at comes first, in hotBytes: in a fan-out to thousands every cache line of
// it comes from memory.
type Connection struct {
	mu        sync.Mutex // guards all that is not said to be fixed
	namespace *namespace // fixed at Attach
	dialect   *dialect   // fixed at Attach
	carriage
	state State
	places
}

// A move to another hub takes State along and drops all else. That stands in two structs, because
// only the carriage has room in hotBytes. Guarded by Connection.mu.

// carriage is how far the messages have come on the link.
type carriage struct {
	link        Link       // nil but in PhaseAttached, and in PhaseClosed while it carries the rest
	sent        uint64     // given to the link
	linkWritten uint64     // reported by the link
	numbering   *numbering // nil: the protocol is not numbered
	soonest     *time.Time // nothing queued expires before it; nil: nothing queued expires
	first       *[]byte    // the link writes it before messages: greeting and replies; nil: nothing
}

// places are where this hub finds and counts the connection.
type places struct {
	userEntry   *membership   // in namespace.users; nil when anonymous
	memberships []*membership // in namespace.groups, parallel to state.Groups

	leaving   int64        // bytes that holdings need not count on: closed, its link has not ended
	roundTrip atomic.Int64 // nanoseconds; 0: not measured
}

// numbering is what only connections need whose messages are numbered. Guarded by Connection.mu.
type numbering struct {
	skip    int         // units that the link will report, but that an ack has counted already
	timer   *time.Timer // of the resume window, or of a tail that is full; nil when neither runs
	patient time.Time   // with a tail that is full, until then; zero: it was not since the last ack
	turn    turn
}

const (
	cacheLine = 64
	// hotBytes is how much of a Connection a delivery looks at.
	hotBytes = 3 * cacheLine
)

// Prefetch has the processor fetch what Take and Written look at: in step 0 what the connection is, in step 1 what it
// points to.
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

// Protocol returns what the connection's link speaks.
func (c *Connection) Protocol() Protocol { return c.dialect.Protocol }

// ID returns the connection's id.
func (c *Connection) ID() ConnectionID { return c.state.ID }

// Identity returns what never changes in the connection.
func (c *Connection) Identity() Identity { return c.state.Identity }

// key implements named.
func (c *Connection) key() string { return string(c.state.ID) }

// applyLocked makes a change and tells the observers. It reports whether an observer has queued
// the event that op is. It changes the budgets if the outbox's list grows or shrinks: most changes
// leave it as it is.
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

// Bind gives the connection a link: the first one, or a new one for a client that resumes, also while the
// old one still looks alive. The link is asked to Flush before Bind returns. ErrClosed when the connection is
// closed; the link is then not used, and must not call Unbind.
func (c *Connection) Bind(l Link) error { return c.bindLink(l, nil) }

// bind is Bind for a client that resumes; nil: it does not.
func (c *Connection) bindLink(l Link, r *Resume) error {
	c.mu.Lock()
	if err := c.state.bindError(); err != nil {
		c.mu.Unlock()
		return err
	}
	var proven [sha256.Size]byte
	if r != nil {
		if r.isOvertaken(c.state.Resumption) {
			c.mu.Unlock()
			return ErrResumeRefused
		}
		proven = r.proven
	}
	old := c.link
	c.endDetachedLocked()
	c.stopTimerLocked()
	c.link = l
	c.sent, c.linkWritten = c.state.Acked, c.state.Acked
	op := Op{Kind: OpAttach}
	token := ""
	if n := c.numbering; n != nil {
		n.skip = 0
		token = randomID(resumeTokenBytes)
		op.Resumption = &Resumption{Given: sha256.Sum256([]byte(token)), Proven: proven}
	}
	c.applyLocked(op)
	c.greetLocked(token)
	if n := c.numbering; n != nil && !n.patient.IsZero() { // it may never read as much as to be found too slow again
		c.startTimerLocked(c.patienceLocked(), cause.AckStuck)
	}
	c.hub().linkBound() // before anybody can close the connection and find no link to wait for
	c.mu.Unlock()

	if old != nil {
		old.Close(cause.CloseStatus{Cause: cause.Lost}) // the client is elsewhere: nobody reads a goodbye
	}
	l.Flush()
	return nil
}

func (c *Connection) greetLocked(token string) {
	var greeting []byte
	if d := c.dialect; d.numbered != nil {
		greeting = d.numbered.AppendGreeting(nil, c.infoLocked(), token)
	} else if d.greeter != nil {
		greeting = d.greeter.AppendGreeting(nil, c.infoLocked())
	}
	c.putFirstLocked(greeting)
}

// Unbind says that a link's wire is gone, and how. A connection whose protocol can resume waits for its
// client when the wire was merely lost; any other is closed. Each link that was bound calls it once. It does
// nothing for a link that was replaced.
func (c *Connection) Unbind(l Link, how cause.CloseStatus) {
	defer c.hub().linkUnbound()
	closeSurplus(c.unbindLink(l, how))
}

// closeSurplus closes connections that wait, for more than may.
func closeSurplus(all []*Connection) {
	for _, surplus := range all {
		surplus.closeDetached(cause.DetachedLimit.CloseStatus())
	}
}

// unbind is Unbind under the lock. It returns connections that must go for this one to wait.
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
		return nil // it is detached when the move is over, wherever
	}
	if c.numbering == nil || !how.Cause.Resumable() || c.hub().Leaving() {
		c.closeLocked(how)
		return nil
	}
	c.stopTimerLocked()
	c.applyLocked(Op{Kind: OpDetach, Resumption: c.state.Resumption.withDetachedAt(time.Now())})
	return startWaitLocked(c)
}

// startWait begins the wait of a detached connection for its client, which began at DetachedAt. It
// returns connections that must go for it to wait. Connection.mu is held.
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

// expiresWithin reports whether what let the client in runs out by then.
func (c *Connection) expiresWithin(d time.Duration) bool {
	claims := c.state.Claims
	return claims != nil && !claims.Expires.IsZero() && time.Until(claims.Expires) < d
}

// comeBackLocked ends the wait of a detached connection, whatever follows.
func (c *Connection) endDetachedLocked() {
	if c.state.Phase == PhaseDetached {
		c.countDetachedLocked(-1)
		c.hub().detached.removeDetached(c)
	}
}

// countDetachedLocked moves what was never written between "queued" and "queued, detached" in the
// receipts.
func (c *Connection) countDetachedLocked(n int32) {
	for _, e := range c.unwrittenLocked() {
		e.tally.detached.Add(n)
	}
}

// unwrittenLocked is what no link has ever written whole.
func (c *Connection) unwrittenLocked() []*Envelope {
	return c.state.Outbox.liveEntries()[c.state.Written-c.state.Acked:]
}

// SetRoundTrip records the round-trip time of a ping.
func (c *Connection) SetRoundTrip(d time.Duration) { c.roundTrip.Store(int64(d)) }

// Info is a connection at one moment.
type Info struct {
	Identity
	Groups          []string
	Phase           Phase
	QueuedMessages  int
	QueuedBytes     int64
	UnackedMessages int
	LastAcked       uint64
	RoundTrip       time.Duration // 0: not measured yet
	Hub             ID            // the holder
}

// Info tells how the connection is now.
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
	}
}

// String names the connection in errors and logs.
func (c *Connection) String() string { return fmt.Sprintf("connection %s", c.state.ID) }
