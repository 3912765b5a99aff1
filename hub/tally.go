package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub/cause"
)

// Wait says how far a message must have come, at every matched connection, before Delivery.Wait returns.
type Wait uint8

const (
	// WaitNone: accepted.
	WaitNone Wait = iota
	// WaitQueued: in the outbox, or dropped.
	WaitQueued
	// WaitWritten: with the kernel, or dropped.
	WaitWritten
	// WaitAcked: confirmed by the client, or dropped, or written where there are no acks.
	WaitAcked
)

// tally counts what becomes of one message at the connections that it matched.
//
// Invariant: at any moment each matched connection is in exactly one state. Each counter but detached only
// grows, a connection is counted at most once in each, and what a later state implies is counted first
// (written before acked). So a reader without a lock that reads in the order of receipt gets a sum that is
// right: it never sees one connection twice, and what it sees in none is queued.
type tally struct {
	// Set before the message is pushed anywhere, constant from then on.
	messageID string
	matched   int32

	acked    atomic.Int32
	written  atomic.Uint64 // those with acks in the low half, those without in the high one: one write for both
	lost     atomic.Int32  // of written: the connection closed before the ack
	detached atomic.Int32  // queued at a connection without a link
	dropped  [cause.DropEnd]atomic.Int32
	moved    atomic.Int32 // not written, and gone to another hub with the connection

	// kept is what the message takes in the budgets of keeper, which is set before; 0: nothing, or no more.
	kept   atomic.Int64
	keeper *namespace

	waiting atomic.Int32 // how many there are in waiters, to be read without the lock; written under mu
	mu      sync.Mutex
	waiters *[WaitAcked + 1]waiters // by waiter.wait: all of one kind are over at once; nil: nobody has waited

	pushed chan struct{} // closed when every outbox has it; nil unless a duplicate may wait for it
}

// waiter is told once, under tally.mu and maybe the lock of a connection, that a wait is over.
type waiter struct {
	wait Wait
	done func()

	// Guarded by tally.mu.
	listed        bool
	before, after *waiter
}

// waiters are those of one kind, the oldest first. There may be as many as there are duplicates of
// a send, so none is searched for.
type waiters struct{ first, last *waiter }

func (l *waiters) appendWaiter(w *waiter) {
	w.listed, w.before = true, l.last
	if l.last == nil {
		l.first = w
	} else {
		l.last.after = w
	}
	l.last = w
}

func (l *waiters) removeWaiter(w *waiter) {
	if w.before == nil {
		l.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		l.last = w.before
	} else {
		w.after.before = w.before
	}
	w.listed, w.before, w.after = false, nil, nil
}

func (t *tally) countWrite(ackable bool) {
	if ackable {
		t.written.Add(1)
	} else {
		t.written.Add(1 << 32)
	}
	t.notifyWaiters()
}

// writes returns how many connections the message was written to, and to how many of them without acks.
func (t *tally) writtenCounts() (written, notAckable int32) {
	both := t.written.Load()
	notAckable = int32(both >> 32)
	return int32(uint32(both)) + notAckable, notAckable
}

func (t *tally) countAck() { t.acked.Add(1); t.notifyWaiters() }

// movesAway says that an unwritten message goes to another hub, or was meant for it.
func (t *tally) countMoved() { t.moved.Add(1); t.notifyWaiters() }

// lose says that a written message will never be confirmed.
func (t *tally) countLost() { t.lost.Add(1); t.notifyWaiters() }

func (t *tally) countDrop(r cause.DropReason) { t.dropped[r].Add(1); t.notifyWaiters() }

// unwritable is at how many connections the message will not be written by this hub.
func (t *tally) unwritableCount() int32 {
	n := t.moved.Load()
	for r := range t.dropped {
		n += t.dropped[r].Load()
	}
	return n
}

// reached reports whether every matched connection has come as far as w.
func (t *tally) hasReached(w Wait) bool {
	switch w {
	case WaitWritten:
		written, _ := t.writtenCounts()
		return written+t.unwritableCount() >= t.matched
	case WaitAcked:
		confirmed := t.acked.Load() + t.lost.Load()
		_, notAckable := t.writtenCounts()
		return confirmed+notAckable+t.unwritableCount() >= t.matched && t.hasReached(WaitWritten)
	default:
		return true
	}
}

// holders is how many connections still hold the message; at least one.
func (t *tally) holderCount() int32 {
	_, notAckable := t.writtenCounts()
	return max(1, t.matched-t.acked.Load()-t.lost.Load()-notAckable-t.unwritableCount())
}

// notify wakes those whose wait is over. A waiter raises waiting before it looks at the counters, and the
// counters were changed before waiting is looked at here: one of the two sees the other.
func (t *tally) notifyWaiters() {
	t.releaseBudget()
	if t.waiting.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for wait := range t.waiters {
		of := &t.waiters[wait]
		if of.first == nil || !t.hasReached(Wait(wait)) {
			continue
		}
		for of.first != nil {
			t.endWaitLocked(of.first).done()
		}
	}
}

// endLocked takes a waiter out of the list.
func (t *tally) endWaitLocked(w *waiter) *waiter {
	t.waiters[w.wait].removeWaiter(w)
	t.waiting.Add(-1)
	return w
}

// settle gives back what the message takes in the budgets once nobody holds it.
func (t *tally) releaseBudget() {
	if t.kept.Load() == 0 || !t.hasReached(WaitAcked) {
		return
	}
	if bytes := t.kept.Swap(0); bytes > 0 {
		t.keeper.countHeld(-bytes)
		t.keeper = nil // a tally with a request id lives longer
	}
}

func (t *tally) waitUntil(ctx context.Context, w Wait) {
	if t.hasReached(w) {
		return
	}
	reached := make(chan struct{})
	forget := t.callWhenReached(w, func() { close(reached) })
	select {
	case <-reached:
	case <-ctx.Done():
		forget()
	}
}

// then has done called once, when every matched connection has come as far as w: at once, or by the goroutine that changes
// that, which may hold the lock of a connection. done must not wait. forget calls it off, but not one that is under way.
func (t *tally) callWhenReached(w Wait, done func()) (forget func()) {
	mine := &waiter{wait: w, done: done}
	t.mu.Lock()
	if t.waiters == nil { // most sends have nobody that waits
		t.waiters = new([WaitAcked + 1]waiters)
	}
	t.waiters[w].appendWaiter(mine)
	t.waiting.Add(1)
	t.mu.Unlock()
	t.notifyWaiters()
	return func() { t.forgetWaiter(mine) }
}

func (t *tally) forgetWaiter(mine *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.listed {
		t.endWaitLocked(mine)
	}
}

// DropCount is how many connections will not get a message for one reason.
type DropCount struct {
	Reason cause.DropReason
	Count  int
}

// Receipt is what became of one send, at the moment it was asked for:
//
//	Matched = Pending + Queued + QueuedDetached + Written + Acked + InTransfer + sum of Dropped
type Receipt struct {
	MessageID      string
	Matched        int
	Pending        int // of other hubs that have not answered
	Queued         int
	QueuedDetached int
	Written        int
	Acked          int
	InTransfer     int         // gone to another hub with the connection, or to be sent there
	Dropped        []DropCount // reasons that occurred
	NotAckable     int         // of Written
	Duplicate      bool        // the request id was known: nothing was sent by this call
	Unmatched      *Unmatched  // with Send.Detail; not of a duplicate
}

func (t *tally) makeReceipt() Receipt {
	r := Receipt{MessageID: t.messageID, Matched: int(t.matched)}
	r.Acked = int(t.acked.Load())
	written, notAckable := t.writtenCounts()
	r.NotAckable = int(notAckable)
	r.Written = int(written) - r.Acked
	r.InTransfer = int(t.moved.Load())
	r.Queued = r.Matched - int(written) - r.InTransfer
	for reason := cause.DropClosed; reason < cause.DropEnd; reason++ {
		if n := int(t.dropped[reason].Load()); n > 0 {
			r.Dropped = append(r.Dropped, DropCount{reason, n})
			r.Queued -= n
		}
	}
	// Last: a message leaves this state before it is counted in another. In between it counts as queued.
	r.QueuedDetached = int(t.detached.Load())
	r.Queued -= r.QueuedDetached
	return r
}

// Delivery is one send on its way. Its methods may be called concurrently.
type Delivery struct {
	tally     *tally
	wait      Wait
	duplicate bool
	aside     *aside // nil: neither
}

// aside is the part of a Delivery that most do without.
type aside struct {
	unmatched *Unmatched
	strayed   []ConnectionID
}

// Strayed returns the connections that matched, but were taken to another hub before the message
// reached them; Receipt.InTransfer counts them. The message has to be sent to them there: see
// Moves.Tombstone. For a duplicate it returns nil.
func (d *Delivery) Strayed() []ConnectionID {
	if d.aside == nil {
		return nil
	}
	return d.aside.strayed
}

// Wait returns when every matched connection has come as far as Send.Wait asked, or ctx is done.
func (d *Delivery) Wait(ctx context.Context) { d.tally.waitUntil(ctx, d.wait) }

// Reached reports whether every matched connection has come as far as Send.Wait asked: then Wait returns at once.
func (d *Delivery) Reached() bool { return d.tally.hasReached(d.wait) }

// Then has done called once, when Wait would return: at once, or by a goroutine that may hold locks of the hub, so done must
// be quick and call nothing of the hub but Receipt. forget calls it off; a call that is under way may still come to its end.
func (d *Delivery) Then(done func()) (forget func()) { return d.tally.callWhenReached(d.wait, done) }

// Receipt tells what has become of the message by now.
func (d *Delivery) Receipt() Receipt {
	r := d.tally.makeReceipt()
	r.Duplicate = d.duplicate
	if d.aside != nil {
		r.Unmatched = d.aside.unmatched
	}
	return r
}
