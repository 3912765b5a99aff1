package hub

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
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
	mu          sync.Mutex // guards all that is not said to be fixed
	namespace   *namespace // fixed at Attach
	dialect     *dialect   // fixed at Attach
	link        Link       // nil but in PhaseAttached, and in PhaseClosed while it carries the rest
	sent        uint64     // given to the link
	linkWritten uint64     // reported by the link
	numbering   *numbering // nil: the protocol is not numbered
	soonest     *time.Time // nothing queued expires before it; nil: nothing queued expires
	first       *[]byte    // what the link writes before messages: its greeting, and replies; nil: nothing
	state       State

	userEntry   *membership   // in namespace.users; nil when anonymous
	memberships []*membership // in namespace.groups, parallel to state.Groups

	leaving   int64        // bytes that holdings need not count on: closed, but its link has not ended
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
		prefetchTo(unsafe.Pointer(&c.state.Outbox)) // its entries
		return
	}
	for at := uintptr(0); at < hotBytes; at += cacheLine {
		Prefetch(unsafe.Add(unsafe.Pointer(c), at))
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

// applyLocked makes one change, and tells the sink. It changes the budgets if the outbox's list grows or
// shrinks: most changes leave it as it is.
func (c *Connection) applyLocked(op Op) {
	before := cap(c.state.Outbox.entries)
	c.state.apply(&op)
	if after := cap(c.state.Outbox.entries); after != before {
		if more := listWeight(after) - listWeight(before); more != 0 {
			c.namespace.hold(more)
		}
	}
	if h := c.hub(); h.sees(op.Kind) {
		h.config.Sink.Applied(c, op)
	}
}

// Bind gives the connection a link: the first one, or a new one for a client that resumes, also while the
// old one still looks alive. The link is asked to Flush before Bind returns. ErrClosed when the connection is
// closed; the link is then not used, and must not call Unbind.
func (c *Connection) Bind(l Link) error { return c.bind(l, [sha256.Size]byte{}) }

// bind is Bind for a client that has shown a token of this hash.
func (c *Connection) bind(l Link, proven [sha256.Size]byte) error {
	c.mu.Lock()
	if c.state.Phase == PhaseClosed {
		c.mu.Unlock()
		return ErrClosed
	}
	old := c.link
	c.comeBackLocked()
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
		c.startTimerLocked(c.patienceLocked(), CauseAckStuck)
	}
	c.hub().linkBound() // before anybody can close the connection and find no link to wait for
	c.mu.Unlock()

	if old != nil {
		old.Close(Close{Cause: CauseLost}) // the client is elsewhere: nobody reads a goodbye
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
func (c *Connection) Unbind(l Link, how Close) {
	defer c.hub().linkUnbound()
	for _, surplus := range c.unbind(l, how) {
		surplus.closeDetached(NewClose(CauseDetachedLimit))
	}
}

// closeDetached is Close unless the client has come back.
func (c *Connection) closeDetached(how Close) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseDetached {
		c.closeLocked(how) // there is no link
	}
}

// unbind is Unbind under the lock. It returns connections that must go for this one to wait.
func (c *Connection) unbind(l Link, how Close) (surplus []*Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return nil
	}
	c.link = nil
	if c.state.Phase == PhaseClosed {
		c.endLocked()
		return nil
	}
	if c.numbering == nil || !how.Cause.Resumable() || c.hub().Leaving() {
		c.closeLocked(how)
		return nil
	}
	c.stopTimerLocked()
	c.applyLocked(Op{Kind: OpDetach, Resumption: c.state.Resumption.detached(time.Now())})
	c.countDetachedLocked(+1)
	if wait := c.hub().config.ResumeWindow; c.expiresWithin(wait) {
		c.startTimerLocked(time.Until(c.state.Claims.Expires), CauseTokenExpired)
	} else {
		c.startTimerLocked(wait, CauseResumeExpired)
	}
	return c.hub().detached.add(c)
}

// expiresWithin reports whether what let the client in runs out by then.
func (c *Connection) expiresWithin(d time.Duration) bool {
	claims := c.state.Claims
	return claims != nil && !claims.Expires.IsZero() && time.Until(claims.Expires) < d
}

// comeBackLocked ends the wait of a detached connection, whatever follows.
func (c *Connection) comeBackLocked() {
	if c.state.Phase == PhaseDetached {
		c.countDetachedLocked(-1)
		c.hub().detached.remove(c)
	}
}

// resumes reports whether the token of this hash is one that the client may have.
func (c *Connection) resumes(hash [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.state.Resumption
	return r != nil && c.state.Phase != PhaseClosed && hash != [sha256.Size]byte{} &&
		subtle.ConstantTimeCompare(hash[:], r.Given[:])|subtle.ConstantTimeCompare(hash[:], r.Proven[:]) == 1
}

// resumeTokenBytes is the size of a resume token: 128 random bits.
const resumeTokenBytes = 16

// countDetachedLocked moves what was never written between "queued" and "queued, detached" in the
// receipts.
func (c *Connection) countDetachedLocked(n int32) {
	for _, e := range c.unwrittenLocked() {
		e.tally.detached.Add(n)
	}
}

// unwrittenLocked is what no link has ever written whole.
func (c *Connection) unwrittenLocked() []*Envelope {
	return c.state.Outbox.live()[c.state.Written-c.state.Acked:]
}

// startTimerLocked closes the connection, which is numbered, after d, unless stopTimerLocked comes first. A client that may
// have been in time, while the hub was not, has returnPatience more.
func (c *Connection) startTimerLocked(d time.Duration, cause Cause) {
	c.armTimerLocked(d, cause, cause != CauseTokenExpired)
}

// armTimerLocked starts the timer; patient says that it may be started again.
func (c *Connection) armTimerLocked(d time.Duration, cause Cause, patient bool) {
	due := time.Now().Add(max(d, 0))
	var t *time.Timer
	t = time.AfterFunc(d, func() { c.timeOver(&t, cause, patient && c.mayBeInTime(due)) })
	c.numbering.timer = t
}

// stallNoticed is how late a timer may be before the hub takes it for its own fault: then what clients sent in time may be unread.
const stallNoticed = 100 * time.Millisecond

// mayBeInTime reports whether the client may have done before due what it was given time for: the process did not run then, or the
// link has not read all that has come.
func (c *Connection) mayBeInTime(due time.Time) bool {
	if time.Since(due) > stallNoticed {
		return true
	}
	c.mu.Lock()
	link := c.link
	c.mu.Unlock()
	return link != nil && link.Stirs()
}

// timeOver is what the timer t does. again: it starts once more.
func (c *Connection) timeOver(t **time.Timer, cause Cause, again bool) {
	c.mu.Lock()
	if c.numbering.timer != *t {
		c.mu.Unlock()
		return // stopped while it fired
	}
	if again {
		c.armTimerLocked(min(returnPatience, c.hub().config.AckTimeout), cause, false)
		c.mu.Unlock()
		return
	}
	link := c.closeLocked(NewClose(cause))
	c.mu.Unlock()
	c.closeLink(link, NewClose(cause))
}

func (c *Connection) stopTimerLocked() {
	if n := c.numbering; n != nil && n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
}

// Close ends the connection: it matches nothing any more when Close returns, and its client is told on the
// way out. What is queued still goes out before that when a backend closes or the hub shuts down, as far as
// the client takes it in time; otherwise it is dropped. It reports false if the connection was closed already.
func (c *Connection) Close(how Close) bool {
	c.mu.Lock()
	open := c.state.Phase != PhaseClosed
	link := c.closeLocked(how)
	c.mu.Unlock()
	c.closeLink(link, how)
	return open
}

// closeLink ends the link of a connection that was closed. If closed connections hold too much already, the link is cut without
// a goodbye, and what it holds is free at once: a client that does not read would keep it until the close times out.
func (c *Connection) closeLink(l Link, how Close) {
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
func (c *Connection) closeLocked(how Close) Link {
	if c.state.Phase == PhaseClosed {
		return nil
	}
	c.stopTimerLocked()
	c.comeBackLocked()
	c.dialect.connections.Dec()
	h := c.hub()
	h.metrics.closes[how.Cause].Inc()
	c.applyLocked(Op{Kind: OpClose, Close: how})
	for _, m := range c.memberships {
		c.namespace.groups.remove(m)
		h.interest.Remove(Key{RouteGroup, c.state.Namespace, m.set.name})
	}
	c.memberships = nil
	if c.userEntry != nil {
		c.namespace.users.remove(c.userEntry)
		h.interest.Remove(Key{RouteUser, c.state.Namespace, c.state.User})
		c.userEntry = nil
	}
	c.namespace.connections.remove(string(c.state.ID))
	h.interest.Remove(Key{RouteEveryone, c.state.Namespace, ""})
	h.release(c.namespace, &c.state.Identity)

	switch {
	case c.link == nil:
		c.endLocked()
	case !how.Cause.orderly():
		// What the link has taken is on its way, and counted when the link says how far it came.
		for n := c.state.Outbox.queued(); n > 0; n-- {
			c.dropLocked(n-1, DropClosed)
		}
		c.putFirstLocked(nil)
		c.loseWrittenLocked()
		// What the link has taken and not yet written counts until it has ended.
		c.leaving = int64(c.keepsLocked().share) // rounded down: what many share leaves once
		c.namespace.leave(c.leaving)
	}
	return c.link
}

// endLocked lets go of what a closed connection has not written. Its link is gone.
func (c *Connection) endLocked() {
	c.loseWrittenLocked()
	unwritten := c.unwrittenLocked()
	for _, e := range unwritten {
		e.tally.drop(DropClosed)
	}
	c.hub().metrics.dropped(DropClosed, len(unwritten))
	c.applyLocked(Op{Kind: OpEnd})
	c.namespace.leave(-c.leaving)
	c.leaving = 0
	c.putFirstLocked(nil)
	c.link, c.soonest = nil, nil
}

// loseWrittenLocked lets go of what is written and not confirmed: the connection is closed, and no ack counts any more.
func (c *Connection) loseWrittenLocked() {
	if c.state.Written == c.state.Acked {
		return
	}
	for _, e := range c.state.Outbox.live()[:c.state.Written-c.state.Acked] {
		e.tally.lose()
	}
	c.applyLocked(Op{Kind: OpAck, Sequence: c.state.Written}) // the state lets go of it as of what is confirmed
}

// Ended returns how the connection was closed, and whether it is.
func (c *Connection) Ended() (Close, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Close == nil {
		return Close{}, false
	}
	return *c.state.Close, true
}

// join makes the connection a member of a group; false if it was one.
func (c *Connection) join(group string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.Phase == PhaseClosed:
		return false, ErrClosed
	case slices.Contains(c.state.Groups, group):
		return false, nil
	case len(c.state.Groups) >= MaxGroups:
		return false, ErrGroupLimit
	}
	c.joinLocked(group)
	return true, nil
}

func (c *Connection) joinLocked(group string) {
	m := c.namespace.groups.add(group, c)
	group = m.set.name // one string for all members
	c.applyLocked(Op{Kind: OpJoin, Group: group})
	c.memberships = append(c.memberships, m)
	c.hub().interest.Add(Key{RouteGroup, c.state.Namespace, group})
}

// leave ends the membership in a group; false if there was none.
func (c *Connection) leave(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.state.Groups, group)
	if i < 0 {
		return false
	}
	c.applyLocked(Op{Kind: OpLeave, Group: group})
	c.namespace.groups.remove(c.memberships[i])
	c.memberships = slices.Delete(c.memberships, i, i+1)
	c.hub().interest.Remove(Key{RouteGroup, c.state.Namespace, group})
	return true
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
		QueuedMessages:  c.state.Outbox.queued(),
		QueuedBytes:     c.state.Outbox.wireBytes(),
		UnackedMessages: int(c.state.Outbox.tail),
		LastAcked:       c.state.Acked,
		RoundTrip:       time.Duration(c.roundTrip.Load()),
		Hub:             c.hub().config.ID,
	}
}

// String names the connection in errors and logs.
func (c *Connection) String() string { return fmt.Sprintf("connection %s", c.state.ID) }
