package events

import (
	"testing"

	"pgregory.net/rapid"
)

// countedAccount holds so much at most.
type countedAccount struct{ held, most int64 }

func (a *countedAccount) Reserve(bytes int64) bool {
	if a.held+bytes > a.most {
		return false
	}
	a.held += bytes
	return true
}

func (a *countedAccount) ReserveSpare(bytes int64) bool {
	return a.held+bytes <= a.most/2 && a.Reserve(bytes)
}

func (a *countedAccount) Release(bytes int64) { a.held -= bytes }

func TestARoomReservesWhatItHoldsAndLittleMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &countedAccount{most: int64(rapid.IntRange(0, 20*roomStep).Draw(t, "most"))}
		r := &room{account: a}
		var held []int64
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				bytes := rapid.Int64Range(1, 3*roomStep).Draw(t, "bytes")
				spare := rapid.Bool().Draw(t, "spare")
				missing := max(0, r.held+bytes-ownBytes-r.reserved)
				most := a.most
				if spare {
					most /= 2
				}
				fits := missing == 0 || a.held+missing <= most
				if got := r.holdBytes(bytes, spare); got != fits {
					t.Fatalf("took %d bytes of %d: %v", bytes, a.most, got)
				}
				if fits {
					held = append(held, bytes)
				}
			},
			"give": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing is held")
				}
				r.freeBytes(held[0])
				held = held[1:]
			},
			"": func(t *rapid.T) {
				var sum int64
				for _, bytes := range held {
					sum += bytes
				}
				if r.held != sum || r.reserved != a.held || r.held > ownBytes+r.reserved ||
					sum == 0 && a.held != 0 || a.held > max(0, sum-ownBytes)+2*roomStep {
					t.Fatalf("%d are held, %d counted, %d reserved, %d of the account",
						sum, r.held, r.reserved, a.held)
				}
			},
		})
	})
}
