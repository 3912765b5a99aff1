package events

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

// TestNoScheduleBreaksThePromises has connections cause events for subscriptions with small limits,
// small accounts and all kinds of filters, while ways out take, release, fail, and the hub leaves.
// The sim checks the promises of the package at every step, and each core against a plain one.
func TestNoScheduleBreaksThePromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim()
		s.trace, s.fail = t.Logf, t.Fatalf
		s.roster.limit = 4
		s.limits = Limits{
			Messages: rapid.IntRange(1, 40).Draw(t, "messages"),
			Bytes:    rapid.Int64Range(500, 9000).Draw(t, "bytes"),
			Standing: rapid.IntRange(1, 12).Draw(t, "standing"),
		}
		t.Repeat((&chance{sim: s, t: t}).actions())
		s.recover()
	})
}

// chance draws the next steps.
type chance struct {
	sim *sim
	t   *rapid.T
}

func (c *chance) actions() map[string]func(*rapid.T) {
	s := c.sim
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { s.check() },
		"subscribe": func(t *rapid.T) {
			full, ending := s.roster.count == s.roster.limit, s.roster.isEnding
			err := s.subscribe(fmt.Sprintf("s%d", len(s.ways)), c.filter(), c.account())
			if (err != nil) != (full || ending) || ending && !errors.Is(err, hub.ErrShuttingDown) {
				t.Fatalf("full %t, ending %t: %v", full, ending, err)
			}
		},
		"connect": func(t *rapid.T) {
			id := rapid.SampledFrom(slices.Sorted(maps.Keys(identities))).Draw(t, "like")
			identity := identities[id]
			identity.ID = hub.ConnectionID(fmt.Sprintf("%s%d", id, len(s.connections)))
			s.connect(identity)
		},
		"emit":      c.emit,
		"emit more": c.emit,
		"emit most": c.emit,
		"disconnect": func(*rapid.T) {
			s.publish(c.connection(), KindDisconnected, nil)
		},
		"take": func(t *rapid.T) {
			most := rapid.IntRange(1, 5).Draw(t, "most")
			s.take(c.way(), most, rapid.Int64Range(1, 2000).Draw(t, "bytes"))
		},
		"release": func(t *rapid.T) {
			w := c.way()
			if len(w.flying) == 0 {
				t.Skip("nothing is in flight")
			}
			s.release(w)
		},
		"end":         c.rarely(func() { s.end(c.way(), errors.New("broken pipe")) }),
		"go away":     c.rarely(s.goAway),
		"finish":      c.rarely(s.finish),
		"unsubscribe": c.unsubscribe,
	}
}

func (c *chance) rarely(do func()) func(*rapid.T) {
	return func(t *rapid.T) {
		if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
			t.Skip("not now")
		}
		do()
	}
}

func (c *chance) filter() (f Filter) {
	some := func(label string, from ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID).Draw(c.t, label)
	}
	f.Namespaces = append([]string{"x"}, some("namespaces", "y", "z")...)
	f.MessageNames = some("names", "a", "b")
	for _, op := range Ops() {
		if rapid.Bool().Draw(c.t, "kind") {
			f.Kinds = append(f.Kinds, kindOf(op))
		}
	}
	return f
}

func (c *chance) account() *countedAccount {
	if rapid.Bool().Draw(c.t, "counts") {
		return nil
	}
	return &countedAccount{most: rapid.Int64Range(0, 2*roomStep).Draw(c.t, "account")}
}

func (c *chance) way() *way {
	if len(c.sim.ways) == 0 {
		c.t.Skip("no subscription")
	}
	return rapid.SampledFrom(c.sim.ways).Draw(c.t, "way")
}

func (c *chance) connection() *life {
	var open []*life
	for _, l := range c.sim.connections {
		if !l.isClosed {
			open = append(open, l)
		}
	}
	if len(open) == 0 {
		c.t.Skip("no connection")
	}
	return rapid.SampledFrom(open).Draw(c.t, "connection")
}

func (c *chance) emit(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
	size := rapid.IntRange(0, 1000).Draw(t, "size")
	c.sim.publish(c.connection(), KindMessage, newMessage(name, size))
}

func (c *chance) unsubscribe(t *rapid.T) {
	w := c.way()
	if !w.isOver || len(w.flying) > 0 {
		t.Skip("not over")
	}
	c.sim.remove(w)
}

// recover has the hub leave, and all ways out take their events: then all are over, and none holds
// anything.
func (s *sim) recover() {
	s.finish()
	for _, w := range slices.Clone(s.ways) {
		for !w.isOver || len(w.flying) > 0 {
			if !w.isOver {
				s.take(w, 3, 1000)
			}
			for len(w.flying) > 0 {
				s.release(w)
			}
			s.check()
		}
		if w.core.room.held != 0 {
			s.fail("%s is over and holds %d bytes", w.name, w.core.room.held)
		}
		s.remove(w)
	}
	if !s.roster.isGone() {
		s.fail("%d subscriptions are left", s.roster.count)
	}
}
