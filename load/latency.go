package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of a measured duration. Three digits from a microsecond to ten minutes take 230 KB.
const (
	shortest = time.Microsecond
	longest  = 10 * time.Minute
	digits   = 3
)

// Latency summarizes measured durations. All fields are 0 if nothing was measured.
type Latency struct {
	// Count is the number of measured durations.
	Count int64
	// P50, P99 and P999 are percentiles: 50 %, 99 % and 99.9 % of the durations are at most as
	// long. Max is the longest duration.
	P50, P99, P999, Max time.Duration
}

// Histogram keeps durations in bounded memory. It is safe for concurrent use.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// NewHistogram returns an empty histogram.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(int64(shortest), int64(longest), digits)}
}

// Record adds a duration. A duration below a microsecond or above ten minutes counts as that bound.
func (h *Histogram) Record(d time.Duration) {
	d = min(max(d, shortest), longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(int64(d)) // fails only out of bounds
}

// mergeInto adds all durations of h to sum. It does not lock sum: sum must belong to the caller.
func (h *Histogram) mergeInto(sum *Histogram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum.h.Merge(h.h)
}

// Latency summarizes the recorded durations. Percentiles are at most 0.1 % too long.
func (h *Histogram) Latency() Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percentile float64) time.Duration {
		return time.Duration(h.h.ValueAtPercentile(percentile))
	}
	return Latency{
		Count: h.h.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9),
		Max: time.Duration(h.h.Max()),
	}
}
