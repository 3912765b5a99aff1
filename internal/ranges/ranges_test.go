package ranges

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The model is the set itself. Where there are too many gaps, the lowest ids may be forgotten.
func TestRangesHoldWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r *Set
		added := map[uint64]bool{}
		spread := rapid.SampledFrom([]uint64{20, 300, 5000}).Draw(t, "spread")
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, spread), 0, 600).Draw(t, "ids") {
			if r == nil {
				r = &Set{}
			}
			r.Add(n)
			if !r.Has(n) && len(r.spans) < MaxSpans {
				t.Fatalf("%d is not in after it was added", n)
			}
			added[n] = true
		}
		if r == nil {
			return
		}
		ordered := slices.IsSortedFunc(r.spans, func(a, b Span) int {
			return int(a.Last) - int(b.First) + 1
		})
		if !ordered || len(r.spans) > MaxSpans {
			t.Fatalf("%d spans: %v", len(r.spans), r.spans)
		}
		for n := uint64(0); n <= spread; n++ {
			forgotten := len(r.spans) == MaxSpans && n < r.spans[0].First
			if r.Has(n) != added[n] && !forgotten {
				t.Fatalf("%d: in %t, added %t", n, r.Has(n), added[n])
			}
		}
	})
}

func TestLargestIDsHaveNoNeighbours(t *testing.T) {
	r := &Set{}
	for _, n := range []uint64{0, 1<<64 - 1, 1<<64 - 2, 1} {
		r.Add(n)
	}
	if want := []Span{{0, 1}, {1<<64 - 2, 1<<64 - 1}}; !slices.Equal(r.spans, want) {
		t.Errorf("got %v", r.spans)
	}
}
