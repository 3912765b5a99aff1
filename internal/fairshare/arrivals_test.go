package fairshare

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// arrival is an item of the dumb model: in a slice, in order.
type arrival struct {
	namespace, user string
	item            int
	where           *UserArrivals[int]
}

// firstOf is the next to go for the model: the oldest of a user that has most, in a namespace that
// has most.
func firstOf(all []arrival) []int {
	namespaces, users := map[string]int{}, map[[2]string]int{}
	mostOf, most := map[string]int{}, 0
	for _, a := range all {
		namespaces[a.namespace]++
		most = max(most, namespaces[a.namespace])
		users[[2]string{a.namespace, a.user}]++
		mostOf[a.namespace] = max(mostOf[a.namespace], users[[2]string{a.namespace, a.user}])
	}
	var oldest []int // of each user that may be it
	seen := map[[2]string]bool{}
	for _, a := range all {
		user := [2]string{a.namespace, a.user}
		if namespaces[a.namespace] == most && users[user] == mostOf[a.namespace] && !seen[user] {
			seen[user] = true
			oldest = append(oldest, a.item)
		}
	}
	return oldest
}

func TestArrivalsGoFromTheLargestUserOfTheLargestNamespace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Arrivals[int]
		var all []arrival
		for i := range rapid.IntRange(0, 100).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 3).Draw(t, "step"); {
			case step == 0 && len(all) > 0:
				at := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				a.Remove(all[at].where, all[at].item)
				all = slices.Delete(all, at, at+1)
			case step == 1 && len(all) > 0:
				where, item := a.First()
				if want := firstOf(all); !slices.Contains(want, item) {
					t.Fatalf("%d goes, want one of %v", item, want)
				}
				a.Remove(where, item)
				all = slices.DeleteFunc(all, func(o arrival) bool { return o.item == item })
			default:
				one := arrival{
					namespace: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"),
					user:      rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(t, "user"),
					item:      i,
				}
				one.where = a.Add(one.namespace, one.user, one.item)
				all = append(all, one)
			}
			if a.len != len(all) {
				t.Fatalf("%d are in it, want %d", a.len, len(all))
			}
		}
		for _, one := range all {
			a.Remove(one.where, one.item)
		}
		if a.len+len(a.byName)+len(a.ranks) != 0 {
			t.Fatalf("%d items, %d namespaces are left of nothing", a.len, len(a.byName))
		}
	})
}
