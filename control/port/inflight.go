package port

import (
	"sync"
	"sync/atomic"
)

// inFlight counts the calls of backends, so that a hub that leaves knows when the last of them has
// ended. The calls of peers go on as long as the hub has connections.
type inFlight struct {
	leaving atomic.Bool // written under mu

	mu    sync.Mutex
	calls int
	// a list of the calls with a call; refuseCalls ends those of them that wait for a message
	first *grpcCall
	quiet chan struct{} // closed when the hub leaves and no call is left
}

func newInFlight() *inFlight { return &inFlight{quiet: make(chan struct{})} }

// beginCall counts a call until endCall; c may be nil.
func (f *inFlight) beginCall(c *grpcCall) {
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

// endCall records the end of a call; c must be as in beginCall.
func (f *inFlight) endCall(c *grpcCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls--
	if c != nil {
		f.unlinkLocked(c)
	}
	f.closeQuietLocked()
}

func (f *inFlight) unlinkLocked(c *grpcCall) {
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

// refuseCalls refuses new calls, and ends the calls whose only request has not come yet. The rest
// may finish.
func (f *inFlight) refuseCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving.Store(true)
	for c := f.first; c != nil; c = c.after {
		c.endWaiting()
	}
	f.closeQuietLocked()
}

// beginReading records that a call waits for its only request, until endReading. If the hub leaves
// meanwhile, it ends the call.
func (f *inFlight) beginReading(c *grpcCall) {
	c.reading.Store(true)
	if f.leaving.Load() { // refuseCalls may have looked before
		c.endWaiting()
	}
}

// endReading records that a call does not wait any more. It reports false if the hub has ended the
// call.
func (f *inFlight) endReading(c *grpcCall) bool { return c.reading.CompareAndSwap(true, false) }

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
