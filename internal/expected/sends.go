// Package expected knows the sends that streams are expected to begin soon, and lets a caller wait
// for them. It imports nothing of ours.
package expected

import (
	"sync"
	"sync/atomic"
)

// MaxPause is the most waits that are left out after a wait that brought nothing.
const MaxPause = 16

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
// them forgets them. If not a single send came meanwhile, the next waits are left out: 1, then
// 2, and so on up to MaxPause, until a wait is worth it again.
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
	pause    int    // waits that are left out after the last vain wait
	paused   int    // of these, those that are still to come
}

// New returns a Sends that expects nothing.
func New() *Sends { return &Sends{missing: make(map[*Stream]int)} }

// Stream is a stream whose sends are expected. Its methods may run together.
type Stream struct {
	sends *Sends
	some  atomic.Bool // set while sends.missing may have the stream
}

// NewStream returns a stream. Forget must follow when it ends.
func (e *Sends) NewStream() *Stream { return &Stream{sends: e} }

// Expect notes that the stream expects n sends more. The backend must not have the results yet that
// they follow.
func (s *Stream) Expect(n int) {
	e := s.sends
	e.mu.Lock()
	defer e.mu.Unlock()
	e.missing[s] += n
	s.some.Store(true)
}

// NoteBegun notes that n sends have begun. Their messages must be in the outboxes. It takes no lock
// if the stream expects none.
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
	e.forgetLocked(s)
	if len(e.missing) == 0 {
		e.pause = 0
	}
}

// Forget forgets the sends that the stream expects.
func (s *Stream) Forget() {
	s.sends.mu.Lock()
	defer s.sends.mu.Unlock()
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
	if len(e.missing) == 0 {
		return Wait{}
	}
	if e.paused > 0 {
		e.paused--
		return Wait{}
	}
	if e.complete == nil {
		e.complete = make(chan struct{})
	}
	return Wait{e.complete, e, e.came}
}

// GiveUp ends the wait before it is complete, and all others. It forgets the sends that have not
// come.
func (w Wait) GiveUp() {
	e := w.sends
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.missing) == 0 {
		return
	}
	clear(e.missing)
	e.completeLocked()
	if e.came != w.came {
		e.pause = 0
		return
	}
	e.pause = min(max(1, 2*e.pause), MaxPause)
	e.paused = e.pause
}
