// Package expected knows the sends that streams are expected to begin soon, and lets a caller wait
// for them. It imports nothing of ours.
package expected

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxPause is the most waits that are left out after a wait that brought nothing.
	MaxPause = 16
	// MaxUnexpected is the most results of a stream that let none expect a send, after the stream
	// let others wait in vain.
	MaxUnexpected = 256
)

// Sends has the sends that all streams of a hub expect, one for each result that they told. A
// backend that keeps sends under way replaces those that have a result. Sends is safe for
// concurrent use.
//
// Problem: each of several backends, or of its goroutines, has a stream with a send under way.
// Their sends to the same clients come within a moment, after the results of the sends before. If
// the first were written at once, the rest would cost the clients a second write.
//
// Outline: a stream notes the results that it is about to tell, and the sends that have begun
// since. A caller with many writes waits until the sends of all streams have come. Their messages
// are behind its own in the outboxes then, so its writes take them along. A wait that ends without
// them forgets them. Of a stream whose sends are late, nothing is expected for its next result,
// then for 2, and so on up to MaxUnexpected, until its sends come in time again. So a stream with a
// pace of its own does not slow the others. If not a single send came during a wait, the next waits
// are left out, too, up to MaxPause: the streams may be new ones each time.
//
// Invariant: no wait goes on when nothing is missing. The caller bounds how long it waits.
type Sends struct {
	mu sync.Mutex
	// missing has the number of sends that each stream expects, above 0. It is no more than the
	// stream ever had under way.
	missing map[*Stream]int
	// complete is closed when missing gets empty; nil: nothing waits.
	complete chan struct{}
	came     uint64 // expected sends that have come, ever
	waits    backOff
	patience time.Duration
}

// backOff leaves things out after one was in vain. The zero backOff leaves nothing out.
type backOff struct {
	pause int // how many are left out after the last time
	left  int // those of them that are still to come
}

// growTo doubles the pause, up to most.
func (b *backOff) growTo(most int) {
	b.pause = min(max(1, 2*b.pause), most)
	b.left = b.pause
}

// leaveOut returns how many of n are left out.
func (b *backOff) leaveOut(n int) int {
	out := min(n, b.left)
	b.left -= out
	return out
}

// New returns a Sends that expects nothing. A send that comes later than patience after it was
// expected is late.
func New(patience time.Duration) *Sends {
	return &Sends{missing: make(map[*Stream]int), patience: patience}
}

// Stream is a stream whose sends are expected. Its methods may run together.
type Stream struct {
	sends *Sends
	some  atomic.Bool // set while sends.missing may have the stream

	// Guarded by sends.mu.
	since time.Time // when it expected a send last
	late  backOff   // of the sends that are expected of the stream
	ended bool
}

// NewStream returns a stream. End must follow.
func (e *Sends) NewStream() *Stream { return &Stream{sends: e} }

// Expect notes that the stream expects n sends more, above 0, unless they are left out. The
// backend must not have the results yet that they follow.
func (s *Stream) Expect(n int) {
	e := s.sends
	e.mu.Lock()
	defer e.mu.Unlock()
	if n -= s.late.leaveOut(n); n > 0 && !s.ended {
		e.missing[s] += n
		s.since = time.Now()
		s.some.Store(true)
	}
}

// NoteBegun notes that n sends have begun. Their messages must be in the outboxes. It takes no
// lock if the stream expects none.
func (s *Stream) NoteBegun(n int) {
	if !s.some.Load() {
		return
	}
	e := s.sends
	e.mu.Lock()
	defer e.mu.Unlock()
	left, ok := e.missing[s]
	if !ok {
		s.some.Store(false) // they were forgotten
		return
	}
	e.came += uint64(min(n, left))
	if n < left {
		e.missing[s] = left - n
		return
	}
	switch {
	case time.Since(s.since) > e.patience:
		s.late.growTo(MaxUnexpected)
	case e.complete != nil:
		s.late = backOff{} // a wait was worth it
	}
	if len(e.missing) == 1 && e.complete != nil {
		e.waits = backOff{}
	}
	e.forgetLocked(s)
}

// End forgets the sends that the stream expects: no more will come.
func (s *Stream) End() {
	s.sends.mu.Lock()
	defer s.sends.mu.Unlock()
	s.ended = true
	s.sends.forgetLocked(s)
}

func (e *Sends) forgetLocked(s *Stream) {
	delete(e.missing, s)
	s.some.Store(false)
	e.completeLocked()
}

// completeLocked ends all waits if nothing is missing.
func (e *Sends) completeLocked() {
	if len(e.missing) == 0 && e.complete != nil {
		close(e.complete)
		e.complete = nil
	}
}

// Wait is a wait for the expected sends of all streams.
type Wait struct {
	// Complete is closed when all have come or are forgotten; nil: a caller must not wait.
	Complete <-chan struct{}

	sends *Sends
	came  uint64 // when the wait began
}

// Await begins a wait. Its Complete is nil if nothing is expected, or if the wait is left out.
func (e *Sends) Await() Wait {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.missing) == 0 || e.waits.leaveOut(1) > 0 {
		return Wait{}
	}
	if e.complete == nil {
		e.complete = make(chan struct{})
	}
	return Wait{e.complete, e, e.came}
}

// GiveUp ends the wait, unless it is complete, and all that run beside it. It forgets the sends
// that have not come.
func (w Wait) GiveUp() {
	e := w.sends
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.complete != w.Complete {
		return // all missing sends were expected since
	}
	for s := range e.missing {
		s.late.growTo(MaxUnexpected)
	}
	clear(e.missing)
	e.completeLocked()
	if e.came != w.came {
		e.waits = backOff{}
		return
	}
	e.waits.growTo(MaxPause)
}
