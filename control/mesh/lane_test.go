package mesh

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
)

// stuckLane has a hub with a lane that does not move, and a second hub beside it.
type stuckLane struct {
	x, y, z *member
	both    Query // y and z have matching clients
	atY     Query
	stuck   string // the caller of the stuck lane
	other   string
}

func newStuckLane(t *testing.T, b *bubble) *stuckLane {
	s := &stuckLane{
		x: b.start("a"), y: b.start("b"), z: b.start("c"), stuck: callerOf(1), other: callerOf(2),
	}
	lobby, toLobby := group("lobby")
	office, toOffice := group("office")
	s.both, s.atY = toLobby, toOffice
	s.y.join(t, lobby)
	s.z.join(t, lobby)
	s.y.join(t, office)
	time.Sleep(time.Second)
	return s
}

// fill sends calls until the line is full. It checks that further callers of the lane wait until
// the lane is known to be stuck, that no caller waits after that, and that no caller of another
// lane waits at all.
func (s *stuckLane) fill(t *testing.T, text string, window int) (calls []*Gathering) {
	t.Helper()
	began := time.Now()
	for range window {
		calls = append(calls, s.x.forward(t.Context(), s.stuck, text, s.x.Route(s.atY).To))
	}
	if took := time.Since(began); took > 0 {
		t.Errorf("the window is full too soon: %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			outcomes := s.x.forward(ctx, s.stuck, "too much", s.x.Route(s.both).To).Wait(ctx)
			took := time.Since(began)
			if outcomes[0].Result != nil || outcomes[1].Result == nil || took != stuckTime {
				t.Errorf("a caller of the stuck lane got %v after %v", outcomes, took)
			}
		})
	}
	synctest.Wait()
	if n := s.z.count(); n != 3 {
		t.Errorf("a hub beside the stuck one got %d of 3", n)
	}
	_, outcomes := s.x.send(t.Context(), s.other, "other", s.both)
	if outcomes[0].Result == nil || outcomes[1].Result == nil || time.Since(began) > 0 {
		t.Errorf("a caller of another lane got %v after %v", outcomes, time.Since(began))
	}
	waiting.Wait()
	_, outcomes = s.x.send(t.Context(), s.stuck, "too much", s.both)
	if outcomes[0].Result != nil || outcomes[1].Result == nil || time.Since(began) > stuckTime {
		t.Errorf("a caller of a lane that is known to be stuck got %v after %v", outcomes,
			time.Since(began))
	}
	if p := s.x.sees(s.y); p.State != PeerLinked || !p.Lease {
		t.Errorf("a stuck lane makes the peer %+v", p)
	}
	return calls
}

// moves checks that each call that was in line has its outcome.
func (s *stuckLane) moves(t *testing.T, calls []*Gathering) {
	t.Helper()
	for i, g := range calls {
		if o := g.Wait(t.Context()); o[0].Result == nil {
			t.Fatalf("call %d: the outcome is unknown", i)
		}
	}
	_, outcomes := s.x.send(t.Context(), s.stuck, "last", s.both)
	if outcomes[0].Result == nil || outcomes[1].Result == nil {
		t.Errorf("a call after it: %v", outcomes)
	}
	if n := strings.Count(strings.Join(s.y.requests(), " "), "too much"); n != 0 {
		t.Errorf("%d calls were executed that did not get in line", n)
	}
}

func TestALaneWhoseExecutorIsStuckHoldsUpItsCallersOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		block := make(chan struct{})
		s.y.mu.Lock()
		s.y.block = map[string]chan struct{}{s.stuck: block}
		s.y.mu.Unlock()
		calls := s.fill(t, "small", laneCalls)
		close(block)
		s.moves(t, calls)
	})
}

func TestTheBytesOfALaneAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		block := make(chan struct{})
		s.y.mu.Lock()
		s.y.block = map[string]chan struct{}{s.stuck: block}
		s.y.mu.Unlock()
		const most = 1 << 20
		// 16 bytes: the message around the text
		calls := s.fill(t, strings.Repeat("x", most-16), laneBytes/most)
		close(block)
		s.moves(t, calls)
	})
}

// TestADataConnectionThatStallsHoldsUpNoProbe: the calls that wait for it go on when it does.
func TestADataConnectionThatStallsHoldsUpNoProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		epoch := s.x.epoch(s.y)
		data := b.between(s.x, s.y, dataCable)[0]
		data.Stall(true, true)
		var calls []*Gathering
		for n := range 100 {
			calls = append(calls,
				s.x.forward(t.Context(), s.stuck, strings.Repeat("x", 10_000)+fmt.Sprint(n),
					s.x.Route(s.both).To))
		}
		time.Sleep(10 * time.Second)
		if p := s.x.sees(s.y); p.State != PeerLinked || !p.Lease {
			t.Errorf("while data stalls the peer is %+v", p)
		}
		if held := data.Held(); held > cableBytes || held == 0 {
			t.Errorf("%d bytes are under way", held)
		}
		data.Stall(false, false)
		s.moves(t, calls)
		if s.x.epoch(s.y) != epoch {
			t.Error("the link was redialled")
		}
	})
}

// TestADataConnectionThatIsDeadEndsTheLink, although the control connection lives.
func TestADataConnectionThatIsDeadEndsTheLink(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		epoch := s.x.epoch(s.y)
		b.between(s.x, s.y, dataCable)[0].Stall(true, true)
		g := s.x.forward(t.Context(), s.stuck, "lost", s.x.Route(s.atY).To)
		began := time.Now()
		o := g.Wait(t.Context())
		if o[0].Result != nil || time.Since(began) > keepaliveInterval+keepaliveTimeout {
			t.Errorf("%v after %v", o, time.Since(began))
		}
		time.Sleep(time.Second)
		if s.x.epoch(s.y) <= epoch {
			t.Error("no new link")
		}
		s.moves(t, nil)
	})
}

func TestALinkThatIsOverTakesNoCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		to := s.x.Route(s.atY).To
		to[0].Epoch += 7
		o := s.x.forward(t.Context(), "me", "no", to).Wait(t.Context())
		if o[0].Result != nil || o[0].Hub != "b" {
			t.Errorf("an epoch that is not: %v", o)
		}
		to = s.x.Route(s.atY).To
		b.cut(s.x, s.y)
		synctest.Wait()
		if o := s.x.forward(t.Context(), "me", "no", to).Wait(t.Context()); o[0].Result != nil {
			t.Errorf("a link that ended: %v", o)
		}
		to = []Destination{{Hub: hub.ID("nobody"), Epoch: 1}}
		o = s.x.forward(t.Context(), "me", "no", to).Wait(t.Context())
		if o[0].Result != nil {
			t.Errorf("nobody: %v", o)
		}
	})
}

// TestWhatWaitsForClientsIsInNobodysWay: thousands of calls that have begun, and wait for slow
// clients, leave a lane free.
func TestWhatWaitsForClientsIsInNobodysWay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := newStuckLane(t, b)
		hold := s.y.holdAt(newGate())
		var calls []*Gathering
		began := time.Now()
		for range 3 * laneCalls {
			calls = append(calls, s.x.forward(t.Context(), s.stuck, "waits", s.x.Route(s.atY).To))
			synctest.Wait()
		}
		if took := time.Since(began); took > 0 || s.y.count() != 3*laneCalls {
			t.Errorf("%d were executed, after %v", s.y.count(), took)
		}
		s.y.mu.Lock()
		s.y.hold = nil
		s.y.mu.Unlock()
		_, outcomes := s.x.send(t.Context(), s.stuck, "quick", s.both)
		if outcomes[0].Result == nil || time.Since(began) > 0 {
			t.Errorf("a call behind them got %v after %v", outcomes, time.Since(began))
		}
		hold.open()
		s.moves(t, calls)
	})
}
