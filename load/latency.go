package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of what is measured: three digits from a microsecond to ten minutes take 230 KB.
const (
	shortest = time.Microsecond
	longest  = 10 * time.Minute
	digits   = 3
)

// Latency is what many measurements come to.
type Latency struct {
	Count         int64
	P50, P99, Max time.Duration
}

// Histogram keeps durations in bounded memory. It may be used by many goroutines.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// NewHistogram returns an empty one.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(int64(shortest), int64(longest), digits)}
}

// Record adds one. What is out of bounds counts as the bound.
func (h *Histogram) Record(d time.Duration) {
	d = min(max(d, shortest), longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(int64(d)) // fails only out of bounds
}

// addTo adds all of h to sum, which nobody else uses.
func (h *Histogram) addTo(sum *Histogram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum.h.Merge(h.h)
}

// Latency returns what has been recorded. Percentiles are at most 0.1 % too long.
func (h *Histogram) Latency() Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percentile float64) time.Duration { return time.Duration(h.h.ValueAtPercentile(percentile)) }
	return Latency{Count: h.h.TotalCount(), P50: at(50), P99: at(99), Max: time.Duration(h.h.Max())}
}
