package control

import (
	"sync"
	"sync/atomic"
)

// inFlight counts the calls of backends, so that a hub that leaves knows when the last one has ended: those of other
// hubs go on for as long as it has connections.
type inFlight struct {
	leaving atomic.Bool // written under mu

	mu    sync.Mutex
	calls int
	first *call         // of those that have one; a list, so that a farewell finds those that wait for a message
	quiet chan struct{} // closed when leaving, and no call is left
}

func newInFlight() *inFlight { return &inFlight{quiet: make(chan struct{})} }

// beginCall counts a call until endCall; c may be nil.
func (f *inFlight) beginCall(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if c != nil {
		if c.after = f.first; c.after != nil {
			c.after.before = c
		}
		f.first = c
	}
}

// endCall says that a call has ended; c may be nil.
func (f *inFlight) endCall(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls--
	if c != nil {
		f.unlinkLocked(c)
	}
	f.closeQuietLocked()
}

func (f *inFlight) unlinkLocked(c *call) {
	if c.after != nil {
		c.after.before = c.before
	}
	if c.before != nil {
		c.before.after = c.after
	} else {
		f.first = c.after
	}
	c.before, c.after = nil, nil
}

// leave refuses new calls, and ends those whose only request has not come yet. The others may finish.
func (f *inFlight) refuseCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving.Store(true)
	for c := f.first; c != nil; c = c.after {
		c.endWaiting()
	}
	f.closeQuietLocked()
}

// beginReading says that a call waits for its only request until endReading: it is ended when the hub leaves.
func (f *inFlight) beginReading(c *call) {
	c.reading.Store(true)
	if f.leaving.Load() { // leave may have looked before
		c.endWaiting()
	}
}

// endReading says that a call does not wait any more. False: it was ended.
func (f *inFlight) endReading(c *call) bool { return c.reading.CompareAndSwap(true, false) }

func (f *inFlight) isRefusing() bool { return f.leaving.Load() }

func (f *inFlight) closeQuietLocked() {
	if !f.leaving.Load() || f.calls > 0 {
		return
	}
	select {
	case <-f.quiet: // a call came while the listeners closed, and has ended
	default:
		close(f.quiet)
	}
}
