package hub

import (
	"testing"

	"pgregory.net/rapid"
)

// TestAConnectionSetDoesWhatAMapDoes, also when it is used again after a larger set.
func TestAConnectionSetDoesWhatAMapDoes(t *testing.T) {
	all := make([]*Connection, 200)
	for i := range all {
		all[i] = &Connection{}
	}
	rapid.Check(t, func(rt *rapid.T) {
		var s connectionSet
		model := map[*Connection]bool{}
		for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(all)-1),
			0, 500).Draw(rt, "added, -1 empties") {
			if i < 0 {
				s.emptySlots()
				clear(model)
				continue
			}
			c := all[i]
			if s.addConnection(c) == model[c] {
				rt.Fatalf("%d: added a second time, or not the first time", i)
			}
			model[c] = true
		}
		for i, c := range all {
			if s.hasConnection(c) != model[c] {
				rt.Fatalf("%d: has %v, want %v", i, s.hasConnection(c), model[c])
			}
		}
		if len(s.used) != len(model) {
			rt.Fatalf("%d slots used for %d", len(s.used), len(model))
		}
	})
}
