package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub/cause"
)

// Wait says how far a message must have come, at every matched connection, before Delivery.Wait
// returns.
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

// tally counts the fate of one message at the connections that it matched.
//
// Invariant: at any moment each matched connection is in exactly one state. Each counter but
// detached only grows. A connection is counted at most once in each. A counter that a later state
// implies grows first (written before acked). So a reader without a lock that reads in the order of
// makeReceipt gets a sum that is right: it never sees a connection twice, and those that it sees in
// no state are queued.
type tally struct {
	// Set before the message is pushed anywhere, constant from then on.
	messageID string
	matched   int32

	acked atomic.Int32
	// written counts those with acks in the low half, those without in the high half: one write
	// does for both.
	written atomic.Uint64
	// lost counts those of written whose connection closed before the ack.
	lost atomic.Int32
	// detached counts those that are queued at a connection without a link.
	detached atomic.Int32
	dropped  [cause.DropEnd]atomic.Int32
	// moved counts unwritten messages that went to a different hub with the connection.
	moved atomic.Int32

	// kept is how many bytes the message takes in the budgets of keeper, which is set before; 0:
	// none, or none any more.
	kept   atomic.Int64
	keeper *namespace

	// waiting is the number of waiters, to be read without the lock; written under mu.
	waiting atomic.Int32
	mu      sync.Mutex
	// waiters are listed by waiter.wait: all of one kind end at once; nil: no caller has waited.
	waiters *[WaitAcked + 1]waiters

	// pushed is closed when every outbox has the message; nil unless a duplicate may wait for it.
	pushed chan struct{}
}

// waiter is called once when a wait is over, under tally.mu and maybe the lock of a connection.
type waiter struct {
	wait Wait
	done func()

	// Guarded by tally.mu.
	listed        bool
	before, after *waiter
}

// waiters are those of one kind, the oldest first. There may be as many as there are duplicates of
// a send, so removal needs no search.
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

// writtenCounts returns how many connections the message was written to, and how many of them have
// no acks.
func (t *tally) writtenCounts() (written, notAckable int32) {
	both := t.written.Load()
	notAckable = int32(both >> 32)
	return int32(uint32(both)) + notAckable, notAckable
}

func (t *tally) countAck() { t.acked.Add(1); t.notifyWaiters() }

// countMoved counts an unwritten message that goes to a different hub, or was meant for it.
func (t *tally) countMoved() { t.moved.Add(1); t.notifyWaiters() }

// countLost counts a written message that will never be confirmed.
func (t *tally) countLost() { t.lost.Add(1); t.notifyWaiters() }

func (t *tally) countDrop(r cause.DropReason) { t.dropped[r].Add(1); t.notifyWaiters() }

// unwritableCount returns at how many connections this hub will not write the message.
func (t *tally) unwritableCount() int32 {
	n := t.moved.Load()
	for r := range t.dropped {
		n += t.dropped[r].Load()
	}
	return n
}

// hasReached reports whether every matched connection has come as far as w.
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

// holderCount returns how many connections still hold the message; at least one.
func (t *tally) holderCount() int32 {
	_, notAckable := t.writtenCounts()
	return max(1, t.matched-t.acked.Load()-t.lost.Load()-notAckable-t.unwritableCount())
}

// notifyWaiters calls the waiters whose wait is over. A waiter raises waiting before it looks at
// the counters. Here the counters were changed before notifyWaiters looks at waiting. So at least
// one side sees the change of the second.
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

// endWaitLocked takes a waiter out of the list.
func (t *tally) endWaitLocked(w *waiter) *waiter {
	t.waiters[w.wait].removeWaiter(w)
	t.waiting.Add(-1)
	return w
}

// releaseBudget gives back the message's bytes in the budgets once no connection holds it.
func (t *tally) releaseBudget() {
	if t.kept.Load() == 0 || !t.hasReached(WaitAcked) {
		return
	}
	if bytes := t.kept.Swap(0); bytes > 0 {
		t.keeper.countHeld(-bytes)
		// A tally with a request id lives longer.
		t.keeper = nil
	}
}

func (t *tally) waitUntil(ctx context.Context, w Wait) {
	if t.hasReached(w) {
		return
	}
	reached := make(chan struct{})
	forget := t.callWhenDue(w, func() { close(reached) })
	select {
	case <-reached:
	case <-ctx.Done():
		forget()
	}
}

// callWhenDue calls done once, when every matched connection has come as far as w: at once, or
// from the goroutine that changes that, which may hold the lock of a connection. done must not
// wait. forget cancels the call, but not a call that is under way.
func (t *tally) callWhenDue(w Wait, done func()) (forget func()) {
	mine := &waiter{wait: w, done: done}
	t.mu.Lock()
	// Most sends have no waiter.
	if t.waiters == nil {
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

// DropCount counts the connections that will not get a message for a reason.
type DropCount struct {
	// Reason is why they will not get it.
	Reason cause.DropReason
	// Count is at least 1.
	Count int
}

// Receipt is the fate of one send, at the moment of the call that returned it:
//
//	Matched = Pending + Queued + QueuedDetached + Written + Acked + InTransfer + sum of Dropped
type Receipt struct {
	// MessageID is the message's id.
	MessageID string
	// Matched counts the connections that matched the target.
	Matched int
	// Pending counts those of hubs that have not answered.
	Pending int
	// Queued counts those whose link has not written the message yet.
	Queued int
	// QueuedDetached counts those of the queue that have no link.
	QueuedDetached int
	// Written counts those that the kernel took the message for, and that have not confirmed it.
	Written int
	// Acked counts those whose client has confirmed the message.
	Acked int
	// InTransfer counts those that moved to a different hub. The message went along, or is to be
	// sent there.
	InTransfer int
	// Dropped has the reasons that occurred.
	Dropped []DropCount
	// NotAckable counts those of Written without acks.
	NotAckable int
	// Duplicate says that the request id was known: this call sent nothing.
	Duplicate bool
	// Unmatched is set with Send.Detail; not for a duplicate.
	Unmatched *Unmatched
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
	// This must be last: a message leaves this state before it is counted in a later state. In
	// between it counts as queued.
	r.QueuedDetached = int(t.detached.Load())
	r.Queued -= r.QueuedDetached
	return r
}

// Delivery is one send on its way. Its methods may be called concurrently.
type Delivery struct {
	tally     *tally
	wait      Wait
	duplicate bool
	aside     *aside // nil: neither part
}

// aside is the part of a Delivery that most do without.
type aside struct {
	unmatched *Unmatched
	strayed   []ConnectionID
}

// Strayed returns the connections that matched, but moved to a different hub before the message
// reached them; Receipt.InTransfer counts them. The caller must send the message to them there: see
// Moves.Tombstone. For a duplicate it returns nil.
func (d *Delivery) Strayed() []ConnectionID {
	if d.aside == nil {
		return nil
	}
	return d.aside.strayed
}

// Wait returns when every matched connection has come as far as Send.Wait asked, or ctx is done.
func (d *Delivery) Wait(ctx context.Context) { d.tally.waitUntil(ctx, d.wait) }

// Reached reports whether every matched connection has come as far as Send.Wait asked. Then Wait
// returns at once.
func (d *Delivery) Reached() bool { return d.tally.hasReached(d.wait) }

// Then calls done once, when Wait would return: at once, or from a goroutine that may hold locks of
// the hub. So done must be quick and call nothing of the hub but Receipt. forget cancels the call;
// a call that is under way may still come to its end.
func (d *Delivery) Then(done func()) (forget func()) { return d.tally.callWhenDue(d.wait, done) }

// Receipt returns the present fate of the message.
func (d *Delivery) Receipt() Receipt {
	r := d.tally.makeReceipt()
	r.Duplicate = d.duplicate
	if d.aside != nil {
		r.Unmatched = d.aside.unmatched
	}
	return r
}
