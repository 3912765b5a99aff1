package discovery

import (
	"sync/atomic"
	"time"
)

// hearing knows how old the news from etcd is. Monotonic: it counts from its own start.
type hearing struct {
	start time.Time    // static
	last  atomic.Int64 // when etcd was last heard, in nanoseconds since start
	live  atomic.Bool  // the watch is open, and answers
}

func newHearing() *hearing { return &hearing{start: time.Now()} }

// heard notes an answer to the watch.
func (h *hearing) heard() {
	h.last.Store(int64(time.Since(h.start)))
	h.live.Store(true)
}

// lost notes that the watch broke. From now on staleFor counts, from the last answer.
func (h *hearing) lost() { h.live.Store(false) }

func (h *hearing) staleFor() time.Duration {
	if h == nil || h.live.Load() {
		return 0
	}
	return time.Since(h.start) - time.Duration(h.last.Load())
}
