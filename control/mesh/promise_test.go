package mesh

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/hub"
)

// deed is an event in a cluster: at a hub, or between two.
type deed struct {
	what     string
	hub, to  int
	group    int
	wait     time.Duration // until the next deed
	sideways [2]bool       // of a stall: forth, back
}

func deeds(rt *rapid.T, hubs int) []deed {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) deed {
		whats := []string{"join", "join", "join", "leave", "send", "stall", "flow", "cut"}
		waits := []time.Duration{
			0, 0, time.Millisecond, 60 * time.Millisecond, 60 * time.Millisecond,
			450 * time.Millisecond, 450 * time.Millisecond, 11 * time.Second,
		}
		d := deed{
			what:  rapid.SampledFrom(whats).Draw(rt, "what"),
			hub:   rapid.IntRange(0, hubs-1).Draw(rt, "hub"),
			to:    rapid.IntRange(1, hubs-1).Draw(rt, "to"),
			group: rapid.IntRange(0, 3).Draw(rt, "group"),
			wait:  rapid.SampledFrom(waits).Draw(rt, "wait"),
		}
		d.to = (d.hub + d.to) % hubs
		d.sideways = [2]bool{rapid.Bool().Draw(rt, "forth"), rapid.Bool().Draw(rt, "back")}
		return d
	}), 5, 25).Draw(rt, "deeds")
}

// TestWhoHasJoinedIsReachedOrNamed, even if links stall and break: read your writes, through real
// streams.
func TestWhoHasJoinedIsReachedOrNamed(t *testing.T) {
	fewChecks(t)
	rapid.Check(t, func(rt *rapid.T) {
		hubs := rapid.IntRange(2, 3).Draw(rt, "hubs")
		bits := rapid.SampledFrom([]int{2, core.HashBits}).Draw(rt, "bits")
		todo := deeds(rt, hubs)
		var problem error
		inBubble(t, func(t *testing.T, b *bubble) {
			p := &promise{b: b, t: t, members: make([][4]int, hubs)}
			for i := range hubs {
				b.start(strconv.Itoa(i), func(c *Config) { c.HashBits = bits })
			}
			problem = p.keep(slices.Clone(b.hubs), todo)
		})
		if problem != nil {
			rt.Fatal(problem)
		}
	})
}

// promise knows the members of groups, and checks that all sends find them.
type promise struct {
	b *bubble
	t *testing.T

	mu      sync.Mutex
	members [][4]int // by hub and group: joins that have returned
	broken  []error
}

func (p *promise) keep(hubs []*member, todo []deed) error {
	var joins sync.WaitGroup
	for _, d := range todo {
		x, y := hubs[d.hub], hubs[d.to]
		switch d.what {
		case "join":
			joins.Go(func() { p.join(hubs, d) })
		case "leave":
			p.leave(x, d)
		case "send":
			p.send(hubs)
		case "stall":
			p.b.stall(x, y, d.sideways[0], d.sideways[1])
		case "flow":
			p.b.stall(x, y, false, false)
		case "cut":
			p.b.cut(x, y)
		}
		time.Sleep(d.wait)
		if d.wait > 0 {
			p.send(hubs)
		}
	}
	joins.Wait()
	p.send(hubs)
	return p.recover(hubs)
}

// join adds a member. As soon as the join returns it sends to the member from everywhere.
func (p *promise) join(hubs []*member, d deed) {
	key, _ := group(fmt.Sprint(d.group))
	began := time.Now()
	hubs[d.hub].join(p.t, key)
	if took := time.Since(began); took > core.LeaseTime {
		p.breaks(fmt.Errorf("a join at %d took %v", d.hub, took))
	}
	p.mu.Lock()
	p.members[d.hub][d.group]++
	p.mu.Unlock()
	p.send(hubs)
}

func (p *promise) leave(x *member, d deed) {
	p.mu.Lock()
	had := p.members[d.hub][d.group] > 0
	if had {
		p.members[d.hub][d.group]--
	}
	p.mu.Unlock()
	if had {
		key, _ := group(fmt.Sprint(d.group))
		x.Remove(key)
	}
}

func (p *promise) breaks(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = append(p.broken, err)
}

// send sends to every group from every hub. No caller waits for outcomes longer than for a hub to
// turn suspect.
func (p *promise) send(hubs []*member) {
	for from, x := range hubs {
		for g := range 4 {
			p.mu.Lock()
			members := slices.Clone(p.members)
			p.mu.Unlock()
			_, q := group(fmt.Sprint(g))
			r := x.Route(q)
			x.forward(p.t.Context(), "me", "", r.To)
			for at, y := range hubs {
				reached := slices.ContainsFunc(r.To,
					func(d Destination) bool { return d.Hub == y.id }) ||
					slices.Contains(r.Unreachable, y.id)
				if at != from && members[at][g] > 0 && !reached {
					p.breaks(fmt.Errorf("at %d a send to group %d misses hub %d: %+v", from, g, at,
						r))
				}
			}
		}
	}
}

// recover lets everything flow. It checks that all hubs find each other again, and send only where
// there are members.
func (p *promise) recover(hubs []*member) error {
	for _, x := range hubs {
		for _, y := range hubs {
			p.b.stall(x, y, false, false)
		}
	}
	// until every link that was silent has ended or recovered
	time.Sleep(core.LinkTimeout + core.DialTimeout)
	p.send(hubs)
	for _, x := range hubs {
		for _, y := range hubs {
			s := x.sees(y)
			if x != y && (s.State != PeerLinked || !s.Lease || s.Interest != y.InterestSize()) {
				p.breaks(fmt.Errorf("in the end %s sees %+v, and %s has %d hashes", x.id, s, y.id,
					y.InterestSize()))
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.broken) > 0 {
		return p.broken[0]
	}
	return nil
}

// TestAJoinBesideAStalledHubReturnsIn500Milliseconds and not before: until then that hub may
// filter.
func TestAJoinBesideAStalledHubReturnsIn500Milliseconds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second + core.ProbeInterval/2)
		b.stall(x, y, false, true) // y's answers and interest don't come
		synctest.Wait()
		lobby, toLobby := group("lobby")
		for n := range 50 { // x goes on to probe, y to answer
			key, _ := group(fmt.Sprint(n))
			y.Add(key)
			time.Sleep(time.Millisecond)
		}
		y.Add(lobby)
		if r := x.Route(toLobby); len(r.To) != 0 {
			t.Fatalf("a does not filter: %+v", r)
		}
		began := time.Now()
		if err := y.InForce(context.Background(), []hub.Key{lobby}); err != nil {
			t.Error(err)
		}
		took := time.Since(began)
		if took > core.LeaseTime || took < core.LeaseTime-2*core.ProbeInterval {
			t.Errorf("a join took %v", took)
		}
		if r := x.Route(toLobby); len(r.To) != 1 || !r.To[0].Flood {
			t.Errorf("%+v", r)
		}
		b.stall(x, y, false, false)
	})
}
