package hub

import "slices"

// ranges is a set of numbers that mostly follow each other, as the ids that a client counts up.
type ranges struct{ spans []span }

// span is all numbers from first to last.
type span struct{ first, last uint64 }

// maxSpans bounds a set. Beyond it the lowest numbers are forgotten.
const maxSpans = 128

func (r *ranges) has(n uint64) bool {
	if r == nil {
		return false
	}
	_, found := r.find(n)
	return found
}

// find returns the span that has n, or where one that has it belongs.
func (r *ranges) find(n uint64) (int, bool) {
	return slices.BinarySearchFunc(r.spans, n, func(s span, n uint64) int {
		switch {
		case s.last < n:
			return -1
		case s.first > n:
			return 1
		default:
			return 0
		}
	})
}

func (r *ranges) add(n uint64) {
	i, found := r.find(n)
	if found {
		return
	}
	before := i > 0 && r.spans[i-1].last == n-1
	behind := i < len(r.spans) && r.spans[i].first == n+1
	switch {
	case before && behind:
		r.spans[i-1].last = r.spans[i].last
		r.spans = slices.Delete(r.spans, i, i+1)
	case before:
		r.spans[i-1].last = n
	case behind:
		r.spans[i].first = n
	default:
		r.spans = slices.Insert(r.spans, i, span{n, n})
	}
	if len(r.spans) > maxSpans {
		r.spans = slices.Delete(r.spans, 0, 1)
	}
}
