package mesh

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/hub"
)

// TestARecycledAddressIsNoHub: at a listed address another hub answers. The listed hub is reported
// unreachable until its key goes, and the answering hub gets none of its calls.
func TestARecycledAddressIsNoHub(t *testing.T) {
	for name, cluster := range map[string]string{
		"of the cluster": "cluster", "of another cluster": "other",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				x := b.start("a")
				other := b.launch("o", func(c *Config) { c.Address = "recycled:1" })
				other.Mesh.mu.Lock()
				other.core.SetCluster(cluster)
				other.Mesh.mu.Unlock()
				b.list("listed", "recycled:1")
				time.Sleep(2 * core.LostGrace)
				listed := &member{id: "listed"}
				if s := x.sees(listed); s.State != PeerListed && s.State != PeerDialled {
					t.Errorf("a sees %+v", s)
				}
				_, q := group("lobby")
				for n := range 10 {
					r, _ := x.send(t.Context(), "me", "for listed", q)
					if len(r.To) != 0 || len(r.Unreachable) != 1 || r.Unreachable[0] != listed.id {
						t.Errorf("send %d: %+v", n, r)
					}
				}
				if n := other.count(); n != 0 {
					t.Errorf("the other one executed %d", n)
				}
				reasons := map[string]string{"cluster": "wrong_hub", "other": "wrong_cluster"}
				reason := reasons[cluster]
				if x.metric(t, "connhub_mesh_dials_failed_total", reason) == 0 {
					t.Errorf("no dial failed because of %s", reason)
				}
				b.unlist("listed")
				synctest.Wait()
				if r := x.Route(q); len(r.Unreachable) != 0 {
					t.Errorf("its key is gone: %+v", r)
				}
			})
		})
	}
}

// TestARecycledAddressDoesNotHoldUpANewHub: an absent hub need not know the new hub.
func TestARecycledAddressDoesNotHoldUpANewHub(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.start("a")
		b.list("listed", "a:9090")
		b.list("away", "nowhere:1")
		began := time.Now()
		b.start("c")
		if took := time.Since(began); took > time.Second {
			t.Errorf("ready after %v", took)
		}
	})
}

// TestAHubWithoutAKeyIsAMemberByItsLink, and for 15 s after it.
func TestAHubWithoutAKeyIsAMemberByItsLink(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x := b.start("a")
		y := b.launch("b") // etcd does not take its key, but gives it the list
		b.inform()
		<-y.Ready()
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		reached := func(h, other *member) {
			t.Helper()
			r, outcomes := h.send(t.Context(), "me", "hello", toLobby)
			if len(r.To) != 1 || r.To[0].Hub != other.id || outcomes[0].Result == nil {
				t.Errorf("%s: %+v, %v", h.id, r, outcomes)
			}
		}
		time.Sleep(time.Second)
		reached(x, y)
		if s := x.sees(y); s.Listed || s.State != PeerLinked || !s.Lease || s.Address != "b:9090" {
			t.Errorf("a sees %+v", s)
		}
		z := b.start("c") // a tells it of b
		time.Sleep(time.Second)
		reached(z, y)

		b.list("b", y.address)
		time.Sleep(time.Second)
		b.unlist("b") // etcd has lost it
		time.Sleep(2 * core.LostGrace)
		reached(x, y)
		reached(z, y)

		y.crash()
		unreachable := func(h *member, want bool) {
			t.Helper()
			synctest.Wait()
			if r := h.Route(toLobby); (len(r.Unreachable) == 1) != want || len(r.To) != 0 {
				t.Errorf("%s: %+v", h.id, r)
			}
		}
		time.Sleep(core.LostGrace - time.Millisecond)
		unreachable(x, true)
		time.Sleep(2 * time.Millisecond)
		unreachable(x, false)
		unreachable(z, false)
	})
}

// TestALateClusterIDHoldsBackHellos: a hub that does not know its cluster yet answers once it does.
func TestALateClusterIDHoldsBackHellos(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		y := &member{bubble: b, id: hub.ID("b"), address: "b:9090", registry: nil}
		c := b.configure(y)
		c.Metrics = nil
		var err error
		if y.Mesh, err = New(c); err != nil {
			t.Fatal(err)
		}
		server := b.serve(y.address, y.Service(y))
		defer server.Stop()
		s := newStranger(b, y, "s")
		stream := s.open(s.hello(1))
		time.Sleep(4 * time.Second)
		y.openCluster("cluster")
		if m, err := stream.Recv(); err != nil || m.GetHello() == nil {
			t.Error(m, err)
		}
		if err := y.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
