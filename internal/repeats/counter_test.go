package repeats

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// For any events at any times: the lines of a kind are an interval apart, and together with the
// events that wait for the next line they count each event once.
func TestLinesAreAnIntervalApartAndCountEachEventOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type event struct {
			kind int
			wait time.Duration
		}
		events := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) event {
			kind := rapid.IntRange(0, 2).Draw(rt, "kind")
			seconds := rapid.IntRange(0, 90).Draw(rt, "seconds")
			return event{kind, time.Duration(seconds) * time.Second}
		}), 0, 100).Draw(rt, "events")
		synctest.Test(t, func(*testing.T) {
			var c Counter[int]
			last, waiting := map[int]time.Time{}, map[int]int{}
			for i, e := range events {
				time.Sleep(e.wait) // the bubble's clock
				before, known := last[e.kind]
				due := !known || time.Since(before) >= time.Minute
				want := 0
				if known {
					waiting[e.kind]++
					want = waiting[e.kind]
				}
				repeats, say := c.Note(e.kind, time.Minute)
				if say != due || say && repeats != want || !say && repeats != 0 {
					rt.Fatalf("event %d: %t with %d, want %t with %d", i, say, repeats, due, want)
				}
				if say {
					last[e.kind], waiting[e.kind] = time.Now(), 0
				}
			}
			if c.Any() != (len(events) > 0) {
				rt.Fatal("Any")
			}
			c.Reset()
			if c.Any() {
				rt.Fatal("something is left after Reset")
			}
		})
	})
}

func TestKindsAreBounded(t *testing.T) {
	var c Counter[int]
	for i := range 10 * MaxKinds {
		if repeats, say := c.Note(i, time.Minute); !say || repeats != 0 {
			t.Fatalf("the first of kind %d: %t with %d", i, say, repeats)
		}
		if len(c.seen) > MaxKinds {
			t.Fatalf("%d kinds are kept", len(c.seen))
		}
	}
}
