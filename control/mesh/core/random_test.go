package core

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// TestNoScheduleBreaksThePromises drives hubs through random schedules: slow, held and reordered
// packets, links that end for both sides or for a single side, holes, stopped and killed processes,
// suspended machines, reused addresses, an etcd that is away or drops a key or all keys.
//
// The sim knows the truth and checks every send, every join, every link and every table. When all
// is well again the hubs must find each other, and sends must go exactly to the hubs with members.
func TestNoScheduleBreaksThePromises(t *testing.T) {
	testkit.SetChecksUnderRace(t, 8)
	for _, bits := range []int{HashBits, 8, 2} {
		t.Run(fmt.Sprintf("%d bits", bits), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				s := newSim(bits)
				s.trace = func(format string, args ...any) {
					rt.Logf("%v "+format, append([]any{s.now}, args...)...)
				}
				s.fail = rt.Fatalf
				seed := rapid.Uint64().Draw(rt, "delays")
				c := &chaos{sim: s, rt: rt, rand: rand.New(rand.NewPCG(seed, 0))}
				for range rapid.IntRange(2, 4).Draw(rt, "hubs") {
					c.start()
				}
				s.advance(time.Second)
				s.delay = c.delay
				rt.Repeat(c.actions())
				c.recover()
			})
		})
	}
}

// chaos draws events.
type chaos struct {
	sim    *sim
	rt     *rapid.T
	rand   *rand.Rand // for delays: too many to draw each from rapid
	slow   time.Duration
	starts int
}

const chaosKeys = 40

func (c *chaos) delay() time.Duration {
	return time.Duration(c.rand.Int64N(int64(c.slow) + 1))
}

func (c *chaos) key() string {
	return fmt.Sprintf("g:%d", rapid.IntRange(0, chaosKeys-1).Draw(c.rt, "key"))
}

// pick draws a hub that fits.
func (c *chaos) pick(fits func(*node) bool) *node {
	var all []*node
	for _, n := range c.sim.nodes {
		if !n.dead && fits(n) {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		c.rt.Skip("no such hub")
	}
	return rapid.SampledFrom(all).Draw(c.rt, "hub")
}

func serving(n *node) bool { return n.ready && !n.paused }

func (c *chaos) pair() (a, b *node) {
	a = c.pick(func(n *node) bool { return !n.paused })
	return a, c.pick(func(n *node) bool { return !n.paused && n != a })
}

// start begins a hub, at a new address or at that of a dead hub.
func (c *chaos) start() {
	c.starts++
	address := fmt.Sprintf("%d:1", c.starts)
	for _, n := range c.sim.nodes {
		a := n.core.us.GetAddress()
		if n.dead && c.sim.hosts[a] == n && rapid.Bool().Draw(c.rt, "reuse") {
			address = a
			break
		}
	}
	c.sim.start(hub.ID(fmt.Sprintf("h%d", c.starts)), address)
}

func (c *chaos) actions() map[string]func(*rapid.T) {
	s := c.sim
	actions := map[string]func(*rapid.T){
		"advance": func(*rapid.T) {
			pause := rapid.Int64Range(0, int64(700*time.Millisecond))
			s.advance(time.Duration(pause.Draw(c.rt, "time")))
		},
		"moment": func(*rapid.T) {
			pause := rapid.Int64Range(0, int64(20*time.Millisecond))
			s.advance(time.Duration(pause.Draw(c.rt, "time")))
		},
		"while": func(*rapid.T) {
			s.advance(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(c.rt, "time")))
		},
		"join": func(*rapid.T) { c.pick(serving).join(c.key()) },
		"rejoin": func(*rapid.T) { // a key that the hub has already
			n := c.pick(func(n *node) bool { return serving(n) && len(n.present) > 0 })
			n.join(rapid.SampledFrom(slices.Sorted(maps.Keys(n.present))).Draw(c.rt, "key"))
		},
		"leave": func(*rapid.T) {
			n := c.pick(func(n *node) bool { return !n.paused && len(n.owed()) > 0 })
			n.leave(rapid.SampledFrom(n.owed()).Draw(c.rt, "key"))
		},
		"send": func(*rapid.T) { c.pick(serving).send(c.key()) },
		"slow": func(*rapid.T) {
			c.slow = rapid.SampledFrom([]time.Duration{
				0, time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond,
			}).Draw(c.rt, "slow")
		},
		"": func(*rapid.T) {
			c.sendAll()
			s.check()
		},
	}
	maps.Copy(actions, c.network())
	maps.Copy(actions, c.processes())
	return actions
}

// owed returns the keys that sends must reach here.
func (n *node) owed() (keys []string) {
	for k, count := range n.members {
		if count > 0 {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// sendAll makes every hub send to every joined key: the sim checks that no send misses a member.
func (c *chaos) sendAll() {
	keys := map[string]bool{}
	for _, n := range c.sim.nodes {
		for _, k := range n.owed() {
			keys[k] = true
		}
	}
	for _, n := range c.sim.nodes {
		for k := range keys {
			if !n.dead && serving(n) {
				n.route(k)
			}
		}
	}
}

func (c *chaos) network() map[string]func(*rapid.T) {
	s := c.sim
	kinds := []string{
		"interest", "answer", "probe", "confirmation", "hello", "data", "end", "loops",
	}
	drawHold := func() hold {
		a, b := c.pair()
		return hold{a.id, b.id, rapid.SampledFrom(kinds).Draw(c.rt, "kind")}
	}
	return map[string]func(*rapid.T){
		"break": func(*rapid.T) { s.sever(c.pair()) },
		"reset": func(*rapid.T) { s.reset(c.pair()) },
		"hole": func(*rapid.T) {
			a, b := c.pair()
			s.holes[[2]*node{a, b}] = true
		},
		"heal": func(*rapid.T) { clear(s.holes) },
		"hold": func(*rapid.T) { s.holds[drawHold()] = true },
		"release": func(*rapid.T) {
			for h := range s.holds {
				s.release(h, 0)
			}
		},
	}
}

func (c *chaos) processes() map[string]func(*rapid.T) {
	s := c.sim
	return map[string]func(*rapid.T){
		"pause":   func(*rapid.T) { c.pick(func(n *node) bool { return !n.paused }).pause() },
		"suspend": func(*rapid.T) { c.pick(func(n *node) bool { return !n.paused }).suspend() },
		"resume":  func(*rapid.T) { c.pick(func(n *node) bool { return n.paused }).resume() },
		"kill": func(*rapid.T) {
			n := c.pick(func(*node) bool { return true })
			n.kill()
			if rapid.Bool().Draw(c.rt, "key stays") {
				return
			}
			delete(s.keys, n.id)
			s.list()
		},
		"start": func(*rapid.T) {
			if c.starts < 6 {
				c.start()
			}
		},
		"unlist": func(*rapid.T) {
			delete(s.keys, c.pick(func(*node) bool { return true }).id)
			s.list()
		},
		"lapse": func(*rapid.T) { // etcd has hung: it ends all leases at once
			clear(s.keys)
			s.list()
		},
		"renew": func(*rapid.T) {
			if !s.deaf {
				s.register()
			}
		},
		"deaf": func(*rapid.T) {
			n := c.pick(func(*node) bool { return true })
			n.deaf = true
			delete(s.keys, n.id)
			s.list()
		},
		"etcd": func(*rapid.T) {
			s.deaf = !s.deaf
			if !s.deaf {
				s.register()
			}
		},
	}
}

// recover heals everything and checks the state of the hubs.
func (c *chaos) recover() {
	s := c.sim
	s.delay = func() time.Duration { return time.Millisecond }
	clear(s.holes)
	for h := range s.holds {
		s.release(h, 0)
	}
	clear(s.keys)
	s.deaf = false
	for _, n := range s.nodes {
		n.deaf = false
		if n.paused && !n.dead {
			n.resume()
		}
	}
	s.register()
	s.advance(time.Minute)
	s.check()
	for _, n := range s.nodes {
		if !n.dead {
			c.recovered(n)
		}
	}
}

func (c *chaos) recovered(n *node) {
	s := c.sim
	for m, missed := range n.missed {
		if missed && !m.dead {
			s.fail("%s goes on, and sends through %s have missed it", n.id, m.id)
		}
	}
	if len(n.calls) > 0 {
		s.fail("%s: %d joins never return", n.id, len(n.calls))
	}
	alive := 0
	for _, m := range s.nodes {
		p := n.core.peers[m.id]
		switch {
		case m == n:
		case m.dead && p != nil:
			s.fail("%s has not forgotten %s", n.id, m.id)
		case !m.dead &&
			(p == nil || p.stateAt(n.clock()) != PeerLinked ||
				!p.out.filter.holdsLease(n.clock()) || p.in == nil):
			s.fail("%s and %s have not found together", n.id, m.id)
		case !m.dead:
			alive++
		}
	}
	if len(n.core.order) != alive || !n.ready {
		s.fail("%s knows %d hubs of %d, ready %t", n.id, len(n.core.order), alive, n.ready)
	}
	for i := range chaosKeys {
		key := fmt.Sprintf("g:%d", i)
		got := n.route(key)
		for _, m := range s.nodes {
			goes := slices.ContainsFunc(got.To, func(d Destination) bool { return d.Hub == m.id })
			has := !m.dead && m != n && m.present[key] > 0
			if has != goes && (s.bits == HashBits || has) {
				s.fail("%s sends %s to %s: %t, which has %d", n.id, key, m.id, goes, m.present[key])
			}
		}
		if len(got.Unreachable) > 0 {
			s.fail("%s can't reach %v", n.id, got.Unreachable)
		}
	}
}
