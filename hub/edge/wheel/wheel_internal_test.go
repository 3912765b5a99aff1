package wheel

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// spoke is a link that does nothing.
type spoke struct{ at Place }

func (*spoke) CheckLink(now time.Duration) time.Duration { return now }
func (*spoke) AbortLink()                                {}

// Each link is looked at once, in the second that it asks for, in whatever order links come and go.
// A wheel that is late looks at all links that are due, and only at them.
func TestWheelLooksAtEachLinkInItsSecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots = 8
		w := &Wheel{
			config: Config{Started: time.Now()}, slots: make([]*Place, slots),
			stop: make(chan struct{}),
		}
		want := map[*Place]int{} // the model: in which second
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				l := &spoke{}
				due := time.Duration(rapid.IntRange(0, 12_000).Draw(t, "due")) * time.Millisecond
				w.Add(l, &l.at, due)
				second := int((due + Tick - 1) / Tick)
				want[&l.at] = min(max(second, w.second+1), w.second+slots-1)
			case 1:
				for at := range want {
					w.links++ // so that Remove never stops a goroutine that does not run
					w.Remove(at)
					delete(want, at)
					break
				}
			case 2:
				was := w.second
				late := rapid.IntRange(1, 2*slots).Draw(t, "seconds later")
				w.config.Started = time.Now().Add(-time.Duration(was+late) * Tick)
				for _, at := range w.takeDue(nil) {
					if want[at] <= was || want[at] > w.second {
						t.Fatalf("second %d after %d: a link of second %d", w.second, was, want[at])
					}
					delete(want, at)
				}
				for _, second := range want {
					if second <= w.second {
						t.Fatalf("second %d: a link of second %d is still waiting", w.second,
							second)
					}
				}
			}
		}
	})
}

// steady is a link that is checked every so often, and notes when.
type steady struct {
	at      Place
	every   time.Duration
	mu      sync.Mutex
	checked []time.Duration
	aborted bool
}

func (s *steady) CheckLink(now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = append(s.checked, now)
	return now + s.every
}

func (s *steady) AbortLink() { s.aborted = true }

// Links of several types share a wheel, each with its own times. The goroutine ends with the last
// link. AbortAll ends the links that are there, and those that come later.
func TestLinksOfSeveralTypesShareAWheel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var goroutines sync.WaitGroup
		w := New(Config{Started: time.Now(), Longest: time.Minute, Goroutines: &goroutines})
		often, seldom, other := &steady{every: Tick}, &steady{every: 10 * Tick}, &spoke{}
		w.Add(often, &often.at, Tick)
		w.Add(seldom, &seldom.at, 5*Tick)
		w.Add(other, &other.at, 2*Tick)
		time.Sleep(26*Tick + Tick/2)
		often.mu.Lock()
		if len(often.checked) != 26 {
			t.Errorf("a link of each second was checked %d times in 26 s", len(often.checked))
		}
		often.mu.Unlock()
		seldom.mu.Lock()
		if len(seldom.checked) != 3 || seldom.checked[1]-seldom.checked[0] != 10*Tick {
			t.Errorf("a link of every 10 s was checked at %v", seldom.checked)
		}
		seldom.mu.Unlock()
		w.Remove(&other.at)
		w.Remove(&often.at)
		w.AbortAll()
		late := &steady{every: Tick}
		w.Add(late, &late.at, 30*Tick)
		if often.aborted || !seldom.aborted || !late.aborted {
			t.Errorf("aborted: %t, %t, %t; want the second and the third", often.aborted,
				seldom.aborted, late.aborted)
		}
		w.Remove(&seldom.at)
		w.Remove(&late.at)
		goroutines.Wait()
	})
}
