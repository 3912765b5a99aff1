package discovery

import (
	"sync/atomic"
	"time"
)

// freshness measures the age of the last answer from etcd, by the monotonic clock. It is safe for
// concurrent use.
type freshness struct {
	start time.Time    // fixed at newFreshness
	last  atomic.Int64 // time of the last answer, in nanoseconds since start; 0: none yet
	live  atomic.Bool  // the watch is open and answers
}

func newFreshness() *freshness { return &freshness{start: time.Now()} }

// markAnswered notes an answer of the watch.
func (h *freshness) markAnswered() {
	h.last.Store(int64(time.Since(h.start)))
	h.live.Store(true)
}

// markLost notes that the watch broke. From now on staleFor returns the time since the last answer.
func (h *freshness) markLost() { h.live.Store(false) }

// staleFor returns 0 while the watch answers, and otherwise the time since its last answer.
func (h *freshness) staleFor() time.Duration {
	if h == nil || h.live.Load() {
		return 0
	}
	return time.Since(h.start) - time.Duration(h.last.Load())
}
