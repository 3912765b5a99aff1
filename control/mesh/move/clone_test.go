package move

import (
	"hash/maphash"
	"maps"
	"slices"
	"strconv"

	"github.com/connhub/connhub/hub"
)

// clone returns a world that goes on by itself. Messages and bodies are shared: nothing changes
// them.
func (w *world) clone() *world {
	made := *w
	made.nodes = make([]*node, len(w.nodes))
	for i, n := range w.nodes {
		made.nodes[i] = n.clone(&made)
	}
	made.links = cloneMap(w.links, func(l *link) *link {
		k := *l
		k.requests, k.responses = slices.Clone(l.requests), slices.Clone(l.responses)
		return &k
	})
	made.clients = cloneMap(w.clients, func(t *client) *client {
		k := *t
		k.world, k.got, k.done = &made, slices.Clone(t.got), slices.Clone(t.done)
		return &k
	})
	made.sends = cloneMap(w.sends, clonePlain[sent])
	made.groups = cloneMap(w.groups, clonePlain[membership])
	made.callers, made.grants = maps.Clone(w.callers), slices.Clone(w.grants)
	made.unsure = slices.Clone(w.unsure)
	return &made
}

func (n *node) clone(w *world) *node {
	made := *n
	made.world, made.core = w, n.core.clone()
	made.conns, made.shadows = cloneMap(n.conns, (*conn).clone), cloneMap(n.shadows, (*conn).clone)
	made.interested = maps.Clone(n.interested)
	made.freezing = slices.Clone(n.freezing)
	made.quick = cloneMap(n.quick, func(q *quickCall) *quickCall {
		k := *q
		k.pending = slices.Clone(q.pending)
		return &k
	})
	made.stones, made.calls = maps.Clone(n.stones), maps.Clone(n.calls)
	return &made
}

func (c *conn) clone() *conn {
	made := *c
	made.state, made.changes = c.state.clone(), slices.Clone(c.changes)
	return &made
}

func (c *Core) clone() *Core {
	made, l := *c, *c.links
	made.links, made.origin.links = &l, &l
	l.in, l.out = maps.Clone(c.in), maps.Clone(c.out)
	made.dead = deaths{maps.Clone(c.dead.known), slices.Clone(c.dead.order)}
	of := map[*answer]*answer{}
	cloneAnswer := func(a *answer) *answer {
		if of[a] == nil {
			k := *a
			k.moved = slices.Clone(a.moved)
			of[a] = &k
		}
		return of[a]
	}
	cloneHeld := func(l heldCalls) heldCalls {
		l.calls = slices.Clone(l.calls)
		for i := range l.calls {
			l.calls[i].of = cloneAnswer(l.calls[i].of)
		}
		return l
	}
	made.departures = cloneMap(c.departures, func(d *departure) *departure {
		k := *d
		k.marked, k.late = maps.Clone(d.marked), maps.Clone(d.late)
		k.held = cloneHeld(d.held)
		return &k
	})
	made.arrivals = cloneMap(c.arrivals, func(a *arrival) *arrival {
		k := *a
		k.marked, k.held = maps.Clone(a.marked), cloneHeld(a.held)
		k.unmarked, k.unsettled = maps.Clone(a.unmarked), maps.Clone(a.unsettled)
		return &k
	})
	made.wanted = maps.Clone(c.wanted)
	made.rests = rests{maps.Clone(c.rests.until), slices.Clone(c.rests.order)}
	made.takes = cloneMap(c.takes, func(t *take) *take {
		k := *t
		k.asked = maps.Clone(t.asked)
		return &k
	})
	made.calls = cloneMap(c.calls, func(n *call) *call {
		k := *n
		k.links, k.pending = maps.Clone(n.links), maps.Clone(n.pending)
		k.moved, k.unknown = slices.Clone(n.moved), maps.Clone(n.unknown)
		return &k
	})
	made.marks = cloneMap(c.marks, clonePlain[mark])
	made.answers = cloneMap(c.answers, cloneAnswer)
	return &made
}

func cloneMap[K comparable, V any](m map[K]*V, clone func(*V) *V) map[K]*V {
	made := make(map[K]*V, len(m))
	for k, v := range m {
		made[k] = clone(v)
	}
	return made
}

func clonePlain[V any](v *V) *V {
	made := *v
	return &made
}

// key is bytes that are equal for equal states.
type key []byte

func (k *key) text(s string) { *k = append(append(*k, s...), 0) }

func (k *key) number(n uint64) { *k = append(strconv.AppendUint(*k, n, 36), 0) }

func (k *key) flags(all ...bool) {
	b := byte(1)
	for _, is := range all {
		b <<= 1
		if is {
			b |= 1
		}
	}
	*k = append(*k, b)
}

func (k *key) id(i ID) {
	k.text(string(i.From))
	k.number(i.Number)
}

func (k *key) origin(o Origin) {
	k.text(string(o.Hub))
	k.number(uint64(o.Lane))
}

func (k *key) origins(sets ...map[Origin]struct{}) {
	for _, set := range sets {
		for _, o := range sortedOrigins(set) {
			k.origin(o)
		}
		*k = append(*k, '/')
	}
}

func (k *key) moves(all []Move) {
	for _, m := range all {
		k.id(m.ID)
	}
	*k = append(*k, '/')
}

func (k *key) request(r request) {
	k.number(uint64(r.verb))
	k.origin(r.caller)
	k.number(uint64(r.number))
}

func (k *key) requests(all []request) {
	for _, r := range all {
		k.request(r)
	}
	*k = append(*k, '/')
}

func (k *key) held(all []heldCall) {
	for _, h := range all {
		k.text(string(h.key.hub))
		k.number(h.key.number)
		k.flags(h.isUnmarked)
	}
	*k = append(*k, '/')
}

// hash returns a number that differs for different states, as good as always.
func (w *world) hash(seed maphash.Seed, k *key) uint64 {
	*k = (*k)[:0]
	k.number(uint64(w.now))
	for _, n := range w.nodes {
		k.node(n)
	}
	for _, p := range w.pairs() {
		k.link(w.links[p])
	}
	for _, id := range sortedKeys(w.clients) {
		t := w.clients[id]
		k.text(string(t.at))
		k.text(string(t.asks))
		k.number(uint64(len(t.got)))
		k.flags(t.isClosed, t.isLost, t.mayEnd, t.refused)
	}
	for _, n := range w.nodes {
		for lane := range w.lanes {
			for i := range w.callers[Origin{n.id, lane}] {
				if s := w.sends[sendKey{Origin{n.id, lane}, i + 1}]; s != nil {
					k.flags(s.must, s.mustNot, s.isOpen)
				}
			}
			k.number(uint64(w.callers[Origin{n.id, lane}]))
		}
	}
	for _, name := range sortedKeys(w.groups) {
		k.number(uint64(w.groups[name].open))
		k.flags(w.groups[name].isIn, w.groups[name].unclear)
	}
	k.number(uint64(len(w.grants)))
	return maphash.Bytes(seed, *k)
}

func (k *key) node(n *node) {
	k.flags(n.dead, n.isDeclared)
	for _, conns := range []map[hub.ConnectionID]*conn{n.conns, n.shadows} {
		for _, id := range sortedKeys(conns) {
			c := conns[id]
			k.number(uint64(c.phase))
			k.flags(c.attached, c.ended)
			k.state(&c.state)
			k.requests(c.changes)
		}
		*k = append(*k, '/')
	}
	for _, id := range sortedKeys(n.stones) {
		k.text(string(n.stones[id]))
	}
	for _, number := range sortedKeys(n.calls) {
		k.number(number)
	}
	for _, peer := range sortedKeys(n.interested) {
		k.flags(n.interested[peer])
	}
	k.core(n.core)
}

func (k *key) state(s *state) {
	k.number(uint64(s.epoch))
	for _, list := range [][]string{s.history, s.groups, s.grants} {
		for _, x := range list {
			k.text(x)
		}
		*k = append(*k, '/')
	}
	k.number(uint64(s.numbered))
	k.number(uint64(s.acked))
	k.number(uint64(s.events))
	k.number(uint64(s.dropped))
}

func (k *key) core(c *Core) {
	for _, peer := range sortedKeys(c.in) {
		k.text(string(peer))
	}
	for _, peer := range sortedKeys(c.out) {
		k.text(string(peer))
		k.number(c.out[peer])
	}
	k.number(c.dials)
	k.number(c.begun)
	k.number(c.called)
	for _, id := range sortedIDs(c.departures) {
		d := c.departures[id]
		k.id(id)
		k.number(uint64(d.stage))
		k.number(uint64(d.deadline))
		k.flags(d.isLossy, d.isComplete, d.ended != nil)
		k.origins(d.marked, d.late)
		k.held(d.held.calls)
	}
	for _, id := range sortedIDs(c.arrivals) {
		a := c.arrivals[id]
		k.id(id)
		k.flags(a.isCommitted, a.isForgotten, a.isTold)
		k.origins(a.marked, a.unmarked, a.unsettled)
		k.held(a.held.calls)
	}
	for _, id := range sortedIDs(c.marks) {
		k.id(id)
		k.number(c.marks[id].calls)
		k.flags(c.marks[id].isAsked, c.marks[id].isSettled)
	}
	k.coreCalls(c)
	for _, id := range sortedKeys(c.wanted) {
		k.text(string(c.wanted[id].hub))
	}
	for _, id := range sortedKeys(c.rests.until) {
		k.text(string(id))
		k.number(uint64(c.rests.until[id]))
	}
	for _, id := range sortedKeys(c.takes) {
		k.text(string(c.takes[id].at))
		k.number(uint64(c.takes[id].hops))
		for _, peer := range sortedKeys(c.takes[id].asked) {
			k.text(string(peer))
		}
		k.flags(c.takes[id].isSearch)
		k.number(uint64(c.takes[id].deadline))
	}
}

func (k *key) coreCalls(c *Core) {
	for _, number := range sortedKeys(c.calls) {
		n := c.calls[number]
		k.number(number)
		for _, peer := range sortedKeys(n.links) {
			k.number(n.links[peer])
		}
		for _, peer := range sortedKeys(n.pending) {
			k.text(string(peer))
			k.number(uint64(n.pending[peer]))
		}
		k.moves(n.moved)
		for _, peer := range sortedKeys(n.unknown) {
			k.text(string(peer))
		}
		*k = append(*k, '/')
	}
	keys := slices.SortedFunc(maps.Keys(c.answers), func(a, b callKey) int {
		if a.hub != b.hub {
			return slices.Compare([]byte(a.hub), []byte(b.hub))
		}
		return int(a.number) - int(b.number)
	})
	for _, at := range keys {
		k.text(string(at.hub))
		k.number(at.number)
		k.number(uint64(c.answers[at].waits))
		k.moves(c.answers[at].moved)
	}
}

func (k *key) link(l *link) {
	k.flags(l.isUp, l.isDialling, l.isAccepted)
	for _, queues := range [][][]Message{l.requests, l.responses} {
		for _, q := range queues {
			for i := range q {
				k.message(&q[i])
			}
			*k = append(*k, '/')
		}
	}
}

func (k *key) message(m *Message) {
	k.number(uint64(m.Kind))
	k.id(m.Move.ID)
	k.number(m.Number)
	k.flags(m.Complete, m.IsFinal, m.Body != nil)
	k.text(string(m.Hub))
	k.moves(m.Moved)
	for _, o := range m.Marked {
		k.origin(o)
	}
	switch body := m.Body.(type) {
	case request:
		k.request(body)
	case []request:
		k.requests(body)
	case state:
		k.state(&body)
	}
}
