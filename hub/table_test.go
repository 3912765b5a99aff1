package hub

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestABucketTellsNamesWithOneHashApart: such names do not occur by accident, but they can be made.
func TestABucketTellsNamesWithOneHashApart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b bucket[*set]
		model := map[string]*set{}
		hash := func(name string) uint64 { return uint64(len(name)) }
		name := rapid.StringMatching("[ab]{1,3}")
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				if model[n] == nil {
					model[n] = &set{name: n}
					b.putLocked(hash(n), model[n])
				}
			},
			"remove": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				b.removeLocked(hash(n), n)
				delete(model, n)
			},
			"": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				if got, ok := b.getLocked(hash(n), n); got != model[n] || ok != (model[n] != nil) {
					rt.Fatalf("%s: got %v, want %v", n, got, model[n])
				}
				var all, want []*set
				b.eachValueLocked(func(s *set) { all = append(all, s) })
				for _, s := range model {
					want = append(want, s)
				}
				byName := func(a, b *set) int { return strings.Compare(a.name, b.name) }
				slices.SortFunc(all, byName)
				slices.SortFunc(want, byName)
				if diff := cmp.Diff(want, all, cmp.Comparer(func(a, b *set) bool {
					return a == b
				}), equateEmpty); diff != "" {
					rt.Fatal(diff)
				}
			},
		})
	})
}
