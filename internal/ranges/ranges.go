// Package ranges has a set of numbers as the ranges that they make up. It imports nothing of ours.
package ranges

import "slices"

// Set is a set of numbers that mostly are neighbours, as the ids that a client counts up. It has
// MaxSpans ranges at most: beyond that it forgets the lowest numbers. A nil Set is empty.
type Set struct{ spans []Span }

// Span is all numbers from First to Last.
type Span struct {
	First uint64 // in it
	Last  uint64 // in it
}

// MaxSpans bounds a Set.
const MaxSpans = 128

// Has reports whether n is in the set.
func (r *Set) Has(n uint64) bool {
	if r == nil {
		return false
	}
	_, found := r.findSpan(n)
	return found
}

// findSpan returns the span that has n, or the place where such a span belongs.
func (r *Set) findSpan(n uint64) (int, bool) {
	return slices.BinarySearchFunc(r.spans, n, func(s Span, n uint64) int {
		switch {
		case s.Last < n:
			return -1
		case s.First > n:
			return 1
		default:
			return 0
		}
	})
}

// Add puts n into the set.
func (r *Set) Add(n uint64) {
	i, found := r.findSpan(n)
	if found {
		return
	}
	before := i > 0 && r.spans[i-1].Last == n-1
	behind := i < len(r.spans) && r.spans[i].First == n+1
	switch {
	case before && behind:
		r.spans[i-1].Last = r.spans[i].Last
		r.spans = slices.Delete(r.spans, i, i+1)
	case before:
		r.spans[i-1].Last = n
	case behind:
		r.spans[i].First = n
	default:
		r.spans = slices.Insert(r.spans, i, Span{n, n})
	}
	if len(r.spans) > MaxSpans {
		r.spans = slices.Delete(r.spans, 0, 1)
	}
}

// Of returns the set of spans that are in order, with gaps between them.
func Of(spans []Span) *Set { return &Set{slices.Clone(spans)} }

// Spans returns the ranges, in order. The caller may change them.
func (r *Set) Spans() []Span {
	if r == nil {
		return nil
	}
	return slices.Clone(r.spans)
}
