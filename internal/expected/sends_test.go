package expected

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Sends does as a model that counts each stream by itself: a wait is over exactly when no stream
// expects sends. A stream that let others wait in vain is left out for a while.
func TestWaitsAreOverWhenNothingIsExpected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := New(time.Hour)
		streams := []*Stream{e.NewStream(), e.NewStream(), e.NewStream()}
		missing, pause, left := make([]int, 3), make([]int, 3), make([]int, 3)
		ended := make([]bool, 3)
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
				out := min(n, left[i])
				if left[i] -= out; !ended[i] {
					missing[i] += n - out
				}
			},
			"note": func(*rapid.T) {
				i, n := draw(2), 1+draw(4)
				streams[i].NoteBegun(n)
				if missing[i] > 0 && n >= missing[i] && len(waits) > 0 {
					pause[i], left[i] = 0, 0
				}
				missing[i] = max(missing[i]-n, 0)
			},
			"end a stream": func(*rapid.T) {
				i := draw(8)
				if i > 1 { // the third goes on, and as a rule the others do
					return
				}
				streams[i].End()
				missing[i], ended[i] = 0, true
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
				for i := range missing {
					if missing[i] > 0 {
						pause[i] = min(max(1, 2*pause[i]), MaxUnexpected)
						left[i] = pause[i]
					}
				}
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
				if e.waits.left > MaxPause || len(e.missing) > len(streams) {
					t.Fatalf("%d waits are left out, %v", e.waits.left, e.missing)
				}
			},
		})
	})
}

// A send that comes after the patience is late, also if nothing waited for it. A late stream is not
// expected for its next result, then for 2, and so on, until a send of it comes in time.
func TestALateStreamIsNotExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Second
		e := New(patience)
		s := e.NewStream()
		// expects counts the results that it takes until the stream expects a send.
		expects := func() (results int) {
			for e.Await().Complete == nil {
				s.Expect(1)
				results++
			}
			return results
		}
		for _, want := range []int{1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 257} {
			if n := expects(); n != want {
				t.Errorf("a send is expected after %d results, want %d", n, want)
			}
			time.Sleep(patience + 1)
			s.NoteBegun(1)
		}
		expects() // and waits
		time.Sleep(patience)
		s.NoteBegun(1)
		if n := expects(); n != 1 {
			t.Errorf("after a send in time one is expected after %d results", n)
		}
		s.End()
	})
}
