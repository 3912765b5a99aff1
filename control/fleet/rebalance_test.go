package fleet

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

func loadsOf(counts ...int) (all []load) {
	for i, n := range counts {
		all = append(all, load{hub.ID(fmt.Sprint("hub-", i)), n})
	}
	return all
}

func TestFullHubsMoveTheirSurplusToHubsBelowTheMean(t *testing.T) {
	type plan = map[hub.ID]map[hub.ID]int
	for name, tc := range map[string]struct {
		counts []int
		want   plan
	}{
		"no hub":       {nil, plan{}},
		"a single hub": {[]int{9}, plan{}},
		"a hub was added": {
			[]int{30, 30, 0}, plan{"hub-0": {"hub-2": 10}, "hub-1": {"hub-2": 10}},
		},
		"two hubs were added": {
			[]int{0, 30, 0}, plan{"hub-1": {"hub-0": 10, "hub-2": 10}},
		},
		"a tenth more than the mean":    {[]int{110, 100, 90}, plan{}},
		"over a tenth":                  {[]int{112, 100, 88}, plan{"hub-0": {"hub-2": 12}}},
		"a difference by the rounding":  {[]int{3, 2, 2}, plan{}},
		"more below than the full have": {[]int{100, 108, 120, 72}, plan{"hub-2": {"hub-3": 20}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, planRebalance(loadsOf(tc.counts...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestASecondRebalanceMovesNothing, and none takes a hub over the mean or below it.
func TestASecondRebalanceMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.IntRange(0, 5000), 0, 8).Draw(t, "counts")
		loads := loadsOf(counts...)
		total, after := 0, map[hub.ID]int{}
		for _, l := range loads {
			total += l.connections
			after[l.hub] = l.connections
		}
		for from, quotas := range planRebalance(loads) {
			for to, n := range quotas {
				if n <= 0 || from == to {
					t.Errorf("%s moves %d to %s", from, n, to)
				}
				after[from] -= n
				after[to] += n
			}
		}
		for i, l := range loads {
			mean, now := total/len(loads), after[l.hub]
			if now < l.connections && now < mean || now > l.connections && now > mean {
				t.Errorf("%s had %d, and has %d with a mean of %d", l.hub, l.connections, now, mean)
			}
			loads[i].connections = now
		}
		if again := planRebalance(loads); len(again) > 0 {
			t.Errorf("%v becomes %v, and then moves again: %v", counts, loads, again)
		}
	})
}
