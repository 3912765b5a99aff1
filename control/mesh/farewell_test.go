package mesh

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/discovery"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// TestAHubThatSaysFarewellIsForgottenAtOnce, although its key is still there.
func TestAHubThatSaysFarewellIsForgottenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y, z := b.start("a"), b.start("b"), b.start("c")
		time.Sleep(time.Second)
		began := time.Now()
		if err := y.down(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("a farewell among hubs that answer took %v", took)
		}
		_, q := group("lobby")
		for _, h := range []*member{x, z} {
			if r := h.Route(q); len(r.Unreachable) != 0 || len(r.To) != 0 {
				t.Errorf("%s: %+v", h.id, r)
			}
			if s := h.sees(y).State; s != PeerGone {
				t.Errorf("%s sees b %v", h.id, s)
			}
		}
		time.Sleep(time.Minute)
		if r := x.Route(q); len(r.Unreachable) != 0 {
			t.Errorf("a minute later: %+v", r)
		}
	})
}

// TestAHubThatGoesWithoutAWordIsNamedUntilItsKeyIsGone, and for 15 s after its last link.
func TestAHubThatGoesWithoutAWordIsNamedUntilItsKeyIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		_, q := group("lobby")
		time.Sleep(time.Second)
		y.crash()
		named := func(want bool) {
			t.Helper()
			synctest.Wait()
			if r := x.Route(q); (len(r.Unreachable) == 1) != want || len(r.To) != 0 {
				t.Errorf("%+v", r)
			}
		}
		named(true)
		time.Sleep(time.Minute)
		named(true)
		b.unlist("b")
		named(false)
	})
}

func TestAHubComesBackWithANewID(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		lobby, toLobby := group("lobby")
		time.Sleep(time.Second)
		y.crash()
		again := b.start("b2", func(c *Config) { c.Address = y.address })
		again.join(t, lobby)
		time.Sleep(time.Second)
		r, outcomes := x.send(t.Context(), "me", "hello", toLobby)
		if len(r.To) != 1 || r.To[0].Hub != "b2" || outcomes[0].Result == nil {
			t.Errorf("%+v, %v", r, outcomes)
		}
		if len(r.Unreachable) != 1 || r.Unreachable[0] != "b" {
			t.Errorf("the old one, whose key is there: %+v", r)
		}
		b.unlist("b")
		time.Sleep(core.LostGrace)
		if r := x.Route(toLobby); len(r.Unreachable) != 0 {
			t.Errorf("its key is gone: %+v", r)
		}
		if again.count() != 1 || y.count() != 0 {
			t.Errorf("executed: %d by the new one, %d by the old one", again.count(), y.count())
		}
	})
}

// closes runs Close and checks its time.
func closes(t *testing.T, h *member, within time.Duration) {
	t.Helper()
	h.stop()
	<-h.followed
	began := time.Now()
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > within {
		t.Errorf("Close of %s took %v", h.id, took)
	}
}

func TestCloseWaitsForNoStuckPeer(t *testing.T) {
	for name, stall := range map[string][2]bool{
		"hears nothing": {true, false}, "says nothing": {false, true}, "neither": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				x, y := b.start("a"), b.start("b")
				lobby, toLobby := group("lobby")
				y.join(t, lobby)
				time.Sleep(time.Second)
				b.stall(x, y, stall[0], stall[1])
				for range 100 { // more than the cable holds
					x.forward(t.Context(), "me", strings.Repeat("x", 10_000), x.Route(toLobby).To)
				}
				closes(t, x, farewellTime)
				b.stall(x, y, false, false)
			})
		})
	}
}

func TestCloseWaitsNoLongerThanItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		b.stall(x, y, true, true)
		x.stop()
		<-x.followed
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := x.Close(ctx); err != nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.stall(x, y, false, false)
	})
}

func TestCloseWaitsForNoDialThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x := b.start("a")
		b.mu.Lock()
		b.mute["silence:1"] = true
		b.mu.Unlock()
		b.list("b", "silence:1")
		time.Sleep(time.Second)
		if s := x.Peers()[0].State; s != PeerDialled {
			t.Fatal(s)
		}
		closes(t, x, farewellTime)
		if strings.Contains(x.log.String(), "dial failed") {
			t.Error("Close is no failed dial")
		}
	})
}

// TestAfterCloseAHubTakesNothing: no link, no lane and no waiting join. A second Close does no
// harm.
func TestAfterCloseAHubTakesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		closes(t, x, 0)
		began := time.Now()
		lobby, _ := group("lobby")
		x.Add(lobby)
		err := x.InForce(t.Context(), []hub.Key{lobby})
		if !errors.Is(err, hub.ErrShuttingDown) || time.Since(began) > 0 {
			t.Errorf("a join: %v after %v", err, time.Since(began))
		}
		x.Remove(lobby)
		s := newStranger(b, x, "s")
		s.refused(t, s.control(s.hello(1)), codes.FailedPrecondition,
			peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN)
		s.refused(t, s.lane(s.laneHello(1, 0)), codes.FailedPrecondition,
			peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH)
		if _, err := x.ask(t.Context(), "b"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a read: %v", err)
		}
		x.GoAway()
		closes(t, x, 0)
		synctest.Wait() // b has seen the end of the link, and looks for its cause
		if s := y.sees(x).State; s != PeerGone {
			t.Errorf("b sees a %v", s)
		}
	})
}

func TestAJoinThatWaitsEndsWithClose(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		b.stall(x, y, true, true)
		lobby, _ := group("lobby")
		x.Add(lobby)
		ended := make(chan error, 1)
		go func() { ended <- x.InForce(context.Background(), []hub.Key{lobby}) }()
		synctest.Wait()
		closes(t, x, farewellTime)
		if err := <-ended; !errors.Is(err, hub.ErrShuttingDown) {
			t.Error(err)
		}
		b.stall(x, y, false, false)
	})
}

// TestCloseEndsRunThatWaitsForEtcd: no bubble, because etcd's client would not end in it.
func TestCloseEndsRunThatWaitsForEtcd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dc := discovery.DefaultConfig()
	dc.Endpoints = []string{l.Addr().String()}
	registry, err := discovery.New(dc)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = registry.Close() }()
	c := DefaultConfig()
	c.Self, c.Address, c.Registry = "a", "a:1", registry
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- m.Run(context.Background()) }()
	if _, err := l.Accept(); err != nil { // it tries to dial
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	_, err = (&peerService{mesh: m}).submitHello(helloOf("b", "a", 1))
	if st := status.Convert(toStatus(err)); st.Code() != codes.FailedPrecondition {
		t.Error(st)
	}
	c.Registry = &discovery.Registry{} // it could not register
	late, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(late.Close(ctx), late.Run(ctx)); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}
