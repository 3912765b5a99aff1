package hub

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The model is the set itself; where there are too many gaps, the lowest ids may be forgotten, and no other.
func TestRangesHoldWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r *ranges
		added := map[uint64]bool{}
		spread := rapid.SampledFrom([]uint64{20, 300, 5000}).Draw(t, "spread")
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, spread), 0, 600).Draw(t, "ids") {
			if r == nil {
				r = &ranges{}
			}
			r.add(n)
			if !r.has(n) && len(r.spans) < maxSpans {
				t.Fatalf("%d is not in after it was added", n)
			}
			added[n] = true
		}
		if r == nil {
			return
		}
		ordered := slices.IsSortedFunc(r.spans, func(a, b span) int { return int(a.last) - int(b.first) + 1 })
		if !ordered || len(r.spans) > maxSpans {
			t.Fatalf("%d spans: %v", len(r.spans), r.spans)
		}
		for n := uint64(0); n <= spread; n++ {
			forgotten := len(r.spans) == maxSpans && n < r.spans[0].first
			if r.has(n) != added[n] && !forgotten {
				t.Fatalf("%d: in %t, added %t", n, r.has(n), added[n])
			}
		}
	})
}

func TestLargestIDsHaveNoNeighbours(t *testing.T) {
	r := &ranges{}
	for _, n := range []uint64{0, 1<<64 - 1, 1<<64 - 2, 1} {
		r.add(n)
	}
	if want := []span{{0, 1}, {1<<64 - 2, 1<<64 - 1}}; !slices.Equal(r.spans, want) {
		t.Errorf("got %v", r.spans)
	}
}
