package mesh

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestThreeHubsFindEachOtherAndSendOnlyWhereSomebodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		x, y, z := b.start("a"), b.start("b"), b.start("c")
		lobby, toLobby := group("lobby")
		began := time.Now()
		y.join(t, lobby)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a join among hubs that answer took %v", took)
		}
		time.Sleep(time.Second)
		for n := range 10 {
			for _, from := range []*member{x, z} {
				route, outcomes := from.send(t.Context(), "me", fmt.Sprint(from.id, n), toLobby)
				if len(route.To) != 1 || route.To[0].Flood || len(outcomes) != 1 ||
					outcomes[0].Hub != "b" || outcomes[0].Result == nil {
					t.Fatalf("%s: route %+v, outcomes %v", from.id, route, outcomes)
				}
			}
		}
		if n := len(y.requests()); n != 20 {
			t.Errorf("b executed %d", n)
		}
		if n := len(x.requests()) + len(z.requests()); n != 0 {
			t.Errorf("%d went where nobody is", n)
		}
		time.Sleep(time.Minute)
		for _, h := range b.hubs {
			for _, p := range h.Peers() {
				if p.State != PeerLinked || !p.Lease {
					t.Errorf("a minute later %s sees %+v", h.id, p)
				}
			}
		}
	})
}

func TestCallsOfOneCallerStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		x, y := b.start("a"), b.start("b")
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		y.hold = newGate()
		var want []string
		var gatherings []*Gathering
		for n := range 3000 {
			want = append(want, fmt.Sprint(n))
			gatherings = append(gatherings,
				x.forward(t.Context(), "me", fmt.Sprint(n), x.Route(toLobby).To))
		}
		synctest.Wait()
		if !slices.Equal(y.requests(), want) {
			t.Errorf("executed %v", y.requests())
		}
		y.hold.open()
		for _, g := range gatherings {
			if o := g.Wait(t.Context()); o[0].Result == nil {
				t.Fatal("an outcome is unknown")
			}
		}
	})
}
