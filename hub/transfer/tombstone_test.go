package transfer

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestATombstoneStaysForItsAge, counted from the move that it tells of.
func TestATombstoneStaysForItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := Tombstones{Most: 10}
		check := func(connection string, want Tombstone) {
			t.Helper()
			if got, ok := all.Get(connection); got != want || ok != (want != Tombstone{}) {
				t.Errorf("%s: got %+v, %t, want %+v", connection, got, ok, want)
			}
		}
		all.Put("c", Tombstone{"b", 2})
		all.Put("d", Tombstone{"b", 2})
		time.Sleep(TombstoneAge / 2)
		all.Put("c", Tombstone{"a", 4}) // it came back, and went again
		check("c", Tombstone{"a", 4})
		check("d", Tombstone{"b", 2})
		time.Sleep(TombstoneAge / 2)
		check("c", Tombstone{"a", 4})
		check("d", Tombstone{})
		all.Remove("c")
		check("c", Tombstone{})
		if all.Len() != 0 {
			t.Errorf("%d tombstones are left", all.Len())
		}
	})
}

// TestTombstonesHaveABound, and the oldest goes first.
func TestTombstonesHaveABound(t *testing.T) {
	const most = 100
	all := Tombstones{Most: most}
	for i := range most + 2 {
		all.Put(fmt.Sprint(i), Tombstone{"b", 2})
	}
	_, first := all.Get("1")
	_, second := all.Get("2")
	if all.Len() != most || first || !second {
		t.Errorf("%d tombstones; the second is there: %t, the third: %t", all.Len(), first, second)
	}
}
