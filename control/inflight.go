package control

import "sync"

// inFlight counts the calls of backends, so that a hub that leaves knows when the last one has ended: those of other
// hubs go on for as long as it has connections.
type inFlight struct {
	mu      sync.Mutex
	calls   int
	leaving bool
	quiet   chan struct{} // closed when leaving, and no call is left
}

func newInFlight() *inFlight { return &inFlight{quiet: make(chan struct{})} }

// begin counts a call until the function that it returns.
func (f *inFlight) begin() (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.calls--
		f.closeLocked()
	}
}

func (f *inFlight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaving = true
	f.closeLocked()
}

func (f *inFlight) isLeaving() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaving
}

func (f *inFlight) closeLocked() {
	if !f.leaving || f.calls > 0 {
		return
	}
	select {
	case <-f.quiet: // a call came while the listeners closed, and has ended
	default:
		close(f.quiet)
	}
}
