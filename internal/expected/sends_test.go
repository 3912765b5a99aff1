package expected

import (
	"testing"

	"pgregory.net/rapid"
)

// Sends does as a model that counts each stream by itself: a wait is over exactly when no
// stream expects sends.
func TestWaitsAreOverWhenNothingIsExpected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := New()
		streams := []*Stream{e.NewStream(), e.NewStream(), e.NewStream()}
		missing := make([]int, len(streams))
		sum := func() (all int) {
			for _, n := range missing {
				all += n
			}
			return all
		}
		var waits []Wait
		draw := func(most int) int { return rapid.IntRange(0, most).Draw(t, "n") }
		t.Repeat(map[string]func(*rapid.T){
			"expect": func(*rapid.T) {
				i, n := draw(2), 1+draw(4)
				streams[i].Expect(n)
				missing[i] += n
			},
			"note": func(*rapid.T) {
				i, n := draw(2), 1+draw(4)
				streams[i].NoteBegun(n)
				missing[i] = max(missing[i]-n, 0)
			},
			"forget": func(*rapid.T) {
				i := draw(2)
				streams[i].Forget()
				missing[i] = 0
			},
			"start": func(t *rapid.T) {
				w := e.Await()
				if w.Complete == nil {
					return
				}
				if waits = append(waits, w); sum() == 0 {
					t.Fatal("a wait for nothing")
				}
			},
			"end": func(t *rapid.T) {
				if len(waits) == 0 {
					t.Skip()
				}
				waits[0].GiveUp()
				clear(missing)
			},
			"": func(t *rapid.T) {
				for len(waits) > 0 && sum() == 0 {
					select {
					case <-waits[0].Complete:
						waits = waits[1:]
					default:
						t.Fatal("a wait goes on though nothing is expected")
					}
				}
				for _, w := range waits {
					select {
					case <-w.Complete:
						t.Fatal("a wait is over though sends are expected")
					default:
					}
				}
				if e.paused > MaxPause || len(e.missing) > len(streams) {
					t.Fatalf("%d bursts do not wait, %v", e.paused, e.missing)
				}
			},
		})
	})
}
