package moving

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

func TestNewerRoomsComeFirst(t *testing.T) {
	const plenty = 1000
	for name, tc := range map[string]struct {
		rooms       []Room
		count, need int
		want        []int
	}{
		"in proportion to the places": {
			[]Room{{"a", true, 30, plenty}, {"b", true, 10, plenty}}, 20, 0, []int{15, 5},
		},
		"no place, no connection": {
			[]Room{{"a", true, 0, plenty}, {"b", true, 50, plenty}}, 20, 20, []int{0, 20},
		},
		"an older room waits": {
			[]Room{{"a", false, 100, plenty}, {"b", true, 50, plenty}}, 60, 0, []int{0, 50},
		},
		"an older room gets what must move": {
			[]Room{{"a", false, 100, plenty}, {"b", true, 50, plenty}}, 60, 55, []int{5, 50},
		},
		"without a place in a newer room all are alike": {
			[]Room{{"a", false, 30, plenty}, {"b", true, 0, plenty}}, 20, 0, []int{20, 0},
		},
		"connects set the pace": {
			[]Room{{"a", true, 100, 3}, {"b", true, 100, 5}}, 60, 0, []int{3, 5},
		},
		"older rooms before more than the connects": {
			[]Room{{"a", true, 100, 3}, {"b", false, 100, 5}}, 60, 8, []int{3, 5},
		},
		"more than the connects if they must move": {
			[]Room{{"a", true, 100, 3}, {"b", false, 100, 5}}, 60, 20, []int{15, 5},
		},
		"fewer connections than rooms": {
			[]Room{{"a", true, 10, 10}, {"b", true, 10, 10}}, 1, 0, []int{1, 0},
		},
		"no room at all": {nil, 60, 20, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, shareOut(tc.rooms, tc.count, tc.need)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSharesKeepToTheRooms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.IntRange(0, 40)
		rooms := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Room {
			return Room{
				hub.ID("h"), rapid.Bool().Draw(t, "newer"),
				few.Draw(t, "places"), few.Draw(t, "connects"),
			}
		}), 0, 5).Draw(t, "rooms")
		count, need := few.Draw(t, "count"), few.Draw(t, "need")
		given := shareOut(rooms, count, need)
		sum, places, beyond, paced, older := 0, 0, 0, 0, 0
		hasNewer := false
		for i, r := range rooms {
			hasNewer = hasNewer || r.IsNewer && r.Places > 0
			sum, places = sum+given[i], places+r.Places
			beyond += max(0, given[i]-r.Connects)
			if given[i] < 0 || given[i] > r.Places {
				t.Errorf("%+v gets %d", r, given[i])
			}
		}
		for i, r := range rooms {
			if r.IsNewer || !hasNewer {
				paced += min(r.Places, r.Connects)
			} else {
				older += given[i]
			}
		}
		// as many as the first rooms let connect, and more only if they must move
		want := min(count, max(min(count, paced), min(need, places)))
		if sum != want {
			t.Errorf("%v of %d, %d must: want %d", given, count, need, want)
		}
		if sum > need && older+beyond > 0 {
			t.Errorf("%v: older rooms or more than the connects, although %d must", given, need)
		}
	})
}
