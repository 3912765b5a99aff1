package mesh

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gate holds the results of waiting calls until it opens.
type gate struct {
	patience time.Duration // of each call

	mu      sync.Mutex
	isOpen  bool
	waiting map[int]func() // by number
	last    int
	stopped int // waits that were cancelled
}

func newGate() *gate { return &gate{patience: time.Hour, waiting: make(map[int]func())} }

// holdAt makes the calls to a hub wait at a gate.
func (h *member) holdAt(g *gate) *gate {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = g
	return g
}

// then is the Then of an Execution.
func (g *gate) then(done func()) (stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		done()
		return func() {}
	}
	g.last++
	number := g.last
	g.waiting[number] = done
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.waiting[number] != nil {
			delete(g.waiting, number)
			g.stopped++
		}
	}
}

// open releases all waiting calls, and all later calls.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOpen = true
	for number, done := range g.waiting {
		delete(g.waiting, number)
		done()
	}
}

// held returns the number of waits, and of cancelled waits.
func (g *gate) held() (waiting, stopped int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting), g.stopped
}

// TestACallThatWaitsTakesNoGoroutine: 2,000 waiting calls, through a whole link, take just a few.
func TestACallThatWaitsTakesNoGoroutine(t *testing.T) {
	const calls, few = 2000, 16
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		hold := s.y.holdAt(newGate())
		gatherings := []*Gathering{s.x.forward(t.Context(), s.stuck, "first", s.x.Route(s.atY).To)}
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range calls {
			gatherings = append(gatherings,
				s.x.forward(t.Context(), s.stuck, "waits", s.x.Route(s.atY).To))
		}
		synctest.Wait()
		if waiting, _ := hold.held(); waiting != calls+1 {
			t.Errorf("%d calls wait, want %d", waiting, calls+1)
		}
		if more := runtime.NumGoroutine() - before; more > few {
			t.Errorf("%d calls that wait take %d goroutines", calls, more)
		}
		hold.open()
		s.moves(t, gatherings)
	})
}

// TestACallThatWaitsIsAnsweredAtItsDeadline, in the order of deadlines, and not before.
func TestACallThatWaitsIsAnsweredAtItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		hold := s.y.holdAt(newGate())
		began := time.Now()
		var waits sync.WaitGroup
		for _, patience := range []time.Duration{
			3 * time.Second, time.Second, 2 * time.Second, time.Second,
		} {
			s.y.mu.Lock()
			hold.patience = patience
			s.y.mu.Unlock()
			g := s.x.forward(t.Context(), s.stuck, "waits", s.x.Route(s.atY).To)
			synctest.Wait()
			waits.Go(func() {
				if o := g.Wait(t.Context()); o[0].Result == nil || time.Since(began) != patience {
					t.Errorf("a call that waits for %v has %v after %v", patience, o[0].Result,
						time.Since(began))
				}
			})
		}
		waits.Wait()
		if waiting, stopped := hold.held(); waiting != 0 || stopped != 4 {
			t.Errorf("%d waits go on, %d were called off", waiting, stopped)
		}
	})
}

// TestTheEndOfALinkEndsItsWaits at once, however long they should last. They don't hold up the next
// link.
func TestTheEndOfALinkEndsItsWaits(t *testing.T) {
	const calls = 100
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		hold := s.y.holdAt(newGate())
		var gatherings []*Gathering
		for range calls {
			gatherings = append(gatherings,
				s.x.forward(t.Context(), s.stuck, "waits", s.x.Route(s.atY).To))
		}
		synctest.Wait()
		if waiting, _ := hold.held(); waiting != calls {
			t.Fatalf("%d calls wait", waiting)
		}
		began := time.Now()
		b.cut(s.x, s.y)
		for _, g := range gatherings {
			if o := g.Wait(t.Context()); o[0].Result != nil {
				t.Errorf("a call whose link has ended: %v", o)
			}
		}
		synctest.Wait()
		waiting, stopped := hold.held()
		if waiting != 0 || stopped != calls || time.Since(began) > 0 {
			t.Errorf("after %v %d waits go on, %d of %d were called off", time.Since(began),
				waiting, stopped, calls)
		}
		s.y.mu.Lock()
		s.y.hold = nil
		s.y.mu.Unlock()
		time.Sleep(time.Second)
		s.moves(t, nil)
	})
}

// TestACallerThatGivesUpLeavesItsWaitToItsDeadline: the peer does not learn of it, and its late
// result does no harm.
func TestACallerThatGivesUpLeavesItsWaitToItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		hold := newGate()
		hold.patience = 2 * time.Second
		s.y.holdAt(hold)
		epoch, began := s.x.epoch(s.y), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o := s.x.forward(ctx, s.stuck, "waits", s.x.Route(s.atY).To).Wait(ctx)
		if o[0].Result != nil || time.Since(began) != time.Second {
			t.Errorf("a caller that gives up has %v after %v", o, time.Since(began))
		}
		if waiting, _ := hold.held(); waiting != 1 {
			t.Errorf("%d calls wait when their caller has given up", waiting)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if waiting, stopped := hold.held(); waiting != 0 || stopped != 1 {
			t.Errorf("%d waits go on, %d were called off", waiting, stopped)
		}
		s.y.mu.Lock()
		s.y.hold = nil
		s.y.mu.Unlock()
		s.moves(t, nil)
		if s.x.epoch(s.y) != epoch {
			t.Error("the link was redialled")
		}
	})
}
