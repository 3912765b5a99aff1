package core

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAKeysetIsASet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s keyset
		model := map[Hash]bool{}
		for _, op := range rapid.SliceOfN(rapid.Uint64Range(0, 3<<8), 0, 2000).Draw(rt, "ops") {
			key := Hash(op & 0xff)
			if op>>8 == 0 {
				s.removeHash(key)
				delete(model, key)
			} else {
				s.addHash(key)
				model[key] = true
			}
			if s.len != len(model) {
				rt.Fatalf("%d keys, want %d", s.len, len(model))
			}
		}
		for h := range Hash(257) {
			if s.hasHash(h) != model[h] {
				rt.Fatalf("has %d: %t", h, s.hasHash(h))
			}
		}
	})
}

// TestARemovedKeyTakesNoOtherWithIt, in a set so full that each key lies behind further keys.
func TestARemovedKeyTakesNoOtherWithIt(t *testing.T) {
	const keys = 20_000
	var s keyset
	for i := range Hash(keys) {
		s.addHash(i)
	}
	for i := range Hash(keys) {
		if i%3 == 0 {
			s.removeHash(i)
			s.removeHash(i)
		}
	}
	for i := range Hash(keys) {
		if want := i%3 != 0; s.hasHash(i) != want {
			t.Fatalf("has %d: %t", i, !want)
		}
	}
	for i := range Hash(keys) {
		s.removeHash(i)
	}
	if s.len != 0 ||
		slices.ContainsFunc(s.parts[:], func(p keysetPart) bool { return p.used != 0 }) {
		t.Errorf("%d keys are left", s.len)
	}
}

// TestAKeyCosts16BytesAtMost: the budget of DESIGN §6, at every size.
func TestAKeyCosts16BytesAtMost(t *testing.T) {
	var s keyset
	worst := 0.0
	for n := 1; n <= 300_000; n++ {
		s.addHash(Hash(rand.Uint64()))
		if n >= 10_000 && n%100 == 0 {
			worst = max(worst, float64(s.countBytes())/float64(n))
		}
	}
	t.Logf("%.1f bytes a key at worst", worst)
	if worst > 16 {
		t.Errorf("a key takes %.1f bytes", worst)
	}
}

func BenchmarkKeysetHas(b *testing.B) {
	var s keyset
	for range 1_000_000 {
		s.addHash(Hash(rand.Uint64()))
	}
	h := Hash(1)
	for b.Loop() {
		s.hasHash(h)
		h = h*6364136223846793005 + 1442695040888963407
	}
}
