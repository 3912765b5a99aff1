package port

import (
	"testing"

	"pgregory.net/rapid"
)

// Callers that take all they can leave room for the next caller. Released bytes are free again.
func TestWhoHoldsLittleFindsRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 1 << 20
		b := newBudget(limit)
		greedy := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *account {
			return b.openAccount(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "credential"))
		}), 1, 8).Draw(t, "connections")
		step := int64(rapid.IntRange(512, 8192).Draw(t, "step"))
		for took := true; took; {
			took = false
			for _, a := range greedy {
				took = a.reserveBytes(step) || took
			}
		}
		var all int64
		for _, a := range greedy {
			all += a.held
			if a.held > limit/3 {
				t.Errorf("one connection holds %d of %d", a.held, limit)
			}
		}
		if b.held != all || all > limit {
			t.Errorf("%d are held, %d in all", b.held, all)
		}
		// Three credentials that are as greedy as can be leave a fourth of the budget, of which a
		// third is free for a newcomer.
		fresh := b.openAccount("fresh")
		if !fresh.reserveBytes(limit / 12) {
			t.Fatalf("no room for a new credential beside %d bytes of others", all)
		}
		fresh.releaseBytes(limit / 12)
		for _, a := range greedy {
			a.releaseBytes(a.held)
		}
		if b.held != 0 {
			t.Errorf("%d are held by nobody", b.held)
		}
	})
}
