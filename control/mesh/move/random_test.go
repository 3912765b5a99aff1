package move

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// TestNoScheduleBreaksThePromises drives hubs through random schedules: calls at all hubs, links
// that end at either end first, hubs that stop, drains, and clients that come to several hubs.
//
// The world knows the truth, and checks each step. When all is well again, each move has ended.
func TestNoScheduleBreaksThePromises(t *testing.T) {
	testkit.SetChecksUnderRace(t, 30)
	rapid.Check(t, func(rt *rapid.T) { runRandom(rt, faults{}) })
}

func runRandom(rt *rapid.T, wrong faults) {
	ids := []hub.ID{"A", "B", "C", "D"}[:rapid.IntRange(2, 4).Draw(rt, "hubs")]
	w := newWorld(rapid.IntRange(1, 2).Draw(rt, "lanes"), ids...)
	w.fail = rt.Fatalf
	w.joinAll()
	w.trace, w.wrong = rt.Logf, wrong
	connections := []hub.ConnectionID{"c", "d"}[:rapid.IntRange(1, 2).Draw(rt, "connections")]
	for _, c := range connections {
		w.connect(w.nodes[0], c)
	}
	w.isFiltered = rapid.Bool().Draw(rt, "calls are filtered")
	w.isFreezeSlow = rapid.Bool().Draw(rt, "freezes are slow")
	w.isLazy = rapid.Bool().Draw(rt, "cores don't hear of calls without need")
	c := &chaos{w, rt, rapid.IntRange(0, 2).Draw(rt, "stops")}
	rt.Repeat(c.actions())
	w.heal()
	for _, id := range connections {
		for _, n := range w.nodes {
			w.clients[id].resume(n)
			w.heal()
		}
		w.clients[id].checkClient()
	}
}

// chaos draws events.
type chaos struct {
	*world

	rt    *rapid.T
	stops int // hubs that may stop
}

func (c *chaos) pick() *node {
	alive := []*node{}
	for _, n := range c.nodes {
		if !n.dead {
			alive = append(alive, n)
		}
	}
	if len(alive) == 0 {
		c.rt.Skip("no hub")
	}
	return rapid.SampledFrom(alive).Draw(c.rt, "hub")
}

func (c *chaos) client() *client {
	return c.clients[rapid.SampledFrom(sortedKeys(c.clients)).Draw(c.rt, "connection")]
}

func (c *chaos) lane() int { return rapid.IntRange(0, c.lanes-1).Draw(c.rt, "lane") }

// group draws a group, or none.
func (c *chaos) group(names ...string) string {
	return rapid.SampledFrom(names).Draw(c.rt, "group")
}

func (c *chaos) pair(fits func(pair) bool) (p pair, ok bool) {
	fitting := []pair{}
	for _, p := range c.pairs() {
		if fits(p) {
			fitting = append(fitting, p)
		}
	}
	if len(fitting) == 0 {
		return pair{}, false
	}
	return rapid.SampledFrom(fitting).Draw(c.rt, "link"), true
}

func (c *chaos) actions() map[string]func(*rapid.T) {
	arrive := func(*rapid.T) {
		for range rapid.IntRange(1, 4).Draw(c.rt, "messages") {
			if all := c.waiting(); len(all) > 0 {
				c.deliver(rapid.SampledFrom(all).Draw(c.rt, "stream"))
				c.checkOwners()
			}
		}
	}
	send := func(*rapid.T) { c.issue(c.pick(), c.lane(), send, c.group("", "", "g", "h")) }
	return map[string]func(*rapid.T){
		"arrive": arrive, "arrive, too": arrive, "arrive, again": arrive,
		"send": send, "send, too": send,
		"join":  func(*rapid.T) { c.issue(c.pick(), c.lane(), join, c.group("g", "h")) },
		"leave": func(*rapid.T) { c.issue(c.pick(), c.lane(), leave, c.group("g", "h")) },
		"grant": func(*rapid.T) { c.issue(c.pick(), c.lane(), grant, "") },
		"close": func(rt *rapid.T) {
			if rapid.IntRange(0, 9).Draw(rt, "close") == 0 {
				c.issue(c.pick(), c.lane(), closes, "")
			}
		},
		"drain": func(*rapid.T) {
			id := c.client().id
			if n, to := c.owner(id), c.pick(); n != nil && n != to {
				n.addQuick()
				effects, _ := n.core.StartMove(c.now, id, to.id)
				n.perform(effects)
				c.endFenced()
			}
		},
		"resume":  func(*rapid.T) { c.client().resume(c.pick()); c.endFenced() },
		"read":    func(*rapid.T) { c.client().read() },
		"ack":     func(*rapid.T) { c.client().ack() },
		"command": func(*rapid.T) { c.client().command() },
		"change":  func(*rapid.T) { c.changeByHub() },
		"cut": func(*rapid.T) {
			if p, ok := c.pair(func(p pair) bool { return c.links[p].isUp }); ok {
				if rapid.Bool().Draw(c.rt, "dialling hub first") {
					c.cutDialled(p)
				} else {
					c.endAccepted(p)
				}
				c.endFenced()
			}
		},
		"freeze": func(*rapid.T) { c.pick().finishFreezes(); c.endFenced() },
		"mend":   func(*rapid.T) { c.mendLinks(); c.endFenced() },
		"dial": func(*rapid.T) {
			if p, ok := c.pair(c.canDial); ok {
				c.dial(p)
			}
		},
		"tick": func(*rapid.T) {
			if next := c.nextDeadline(); next != never {
				c.tick(next)
			}
		},
		"stop": func(rt *rapid.T) {
			if c.stops > 0 && rapid.IntRange(0, 4).Draw(rt, "stop") == 0 {
				c.stops--
				c.stop(c.pick())
			}
		},
		"": func(*rapid.T) { c.checkOwners() },
	}
}

// changeByHub makes a change that is no call: a dropped message, a lost link, a close in doubt.
func (c *chaos) changeByHub() {
	t := c.client()
	for _, n := range c.nodes {
		k := n.conns[t.id]
		switch {
		case k == nil:
		case k.phase == inDoubt && c.owner(t.id) == nil:
			if rapid.IntRange(0, 5).Draw(c.rt, "close") == 0 {
				c.trace("%s closes %s, which is in doubt", n.id, t.id)
				k.ended, t.isClosed = true, true
			}
		case k.phase == inDoubt:
		case rapid.Bool().Draw(c.rt, "drop") && len(k.outbox) > k.numbered:
			c.trace("%s drops %s", n.id, k.outbox[k.numbered])
			c.noteChange(k, request{verb: drops})
		case k.attached:
			c.trace("%s loses the link of %s", n.id, t.id)
			t.loseLink(n)
			c.noteChange(k, request{verb: detaches})
		}
	}
}

func (w *world) noteChange(k *conn, r request) {
	if k.phase == moving {
		k.changes = append(k.changes, r)
	}
	w.change(k, r)
}
