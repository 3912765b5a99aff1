package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// sim is a cluster without network and clock: real cores, queues as wires between them, and a map
// as etcd. It knows the true members.
type sim struct {
	now   time.Duration
	bits  int
	delay func() time.Duration // of a packet; the packets of a stream stay in order
	fail  func(format string, args ...any)
	trace func(format string, args ...any)

	nodes []*node
	keys  map[hub.ID]string // etcd: hub → address
	marks map[hub.ID]string // etcd: the marks that outlast the keys
	deaf  bool              // etcd is away
	hosts map[string]*node  // the hub at each address
	wires []*wire
	holes map[[2]*node]bool // no packet passes from the first to the second
	holds map[hold]bool
	words map[uint64]string // the name of each hash
	left  bool              // a hub took itself out of etcd, and the rest must be told
}

// node is a hub process.
type node struct {
	sim    *sim
	id     hub.ID
	core   *Core
	dead   bool
	paused bool
	// since when its machine is suspended, and its clock stands still; never: it runs
	asleep time.Duration
	lag    time.Duration // the delay of its clock
	woken  bool          // its machine was suspended
	deaf   bool          // cut off from etcd
	// since when it has not heard etcd, as its sends report; never: it hears etcd
	stale time.Duration
	ready bool

	listedAt time.Duration // first list; -1: none yet
	waited   time.Duration // its time to become ready
	heardOf  map[hub.ID]bool
	up       map[*node]time.Duration // when it last had a link with that node, in either direction
	strange  map[*node]bool          // nodes that it could not know when it became ready
	missed   map[*node]bool          // nodes whose sends have missed it silently

	calls   map[uint64]*joining
	last    uint64
	quiet   uint64         // joins up to that number return without a line: they are too many
	members map[string]int // joined, with the join returned, and not left: sends must reach it
	present map[string]int // joined, returned or not: an arriving send finds it
	local   stream         // events within the process
}

// GoString keeps rapid's output readable.
func (n *node) GoString() string { return string(n.id) }

// joining is a join that has not returned.
type joining struct {
	key     string
	begun   time.Duration
	allowed time.Duration // when it must have returned
}

func newSim(bits int) *sim {
	return &sim{
		bits: bits, delay: func() time.Duration { return time.Millisecond },
		keys: map[hub.ID]string{}, marks: map[hub.ID]string{}, hosts: map[string]*node{},
		holes: map[[2]*node]bool{}, holds: map[hold]bool{}, words: map[uint64]string{},
	}
}

// start begins a hub: it registers, then lists.
func (s *sim) start(id hub.ID, address string) *node {
	us := &peerv1.Hello{
		Self: &peerv1.Identity{Cluster: "c", Hub: string(id)}, ProtocolMin: ProtocolMin,
		ProtocolMax: ProtocolMax,
		Name:        "hub-" + string(id), Address: address, Lanes: 1,
	}
	n := &node{
		sim: s, id: id, core: New(Config{Us: us, HashBits: s.bits}), listedAt: -1,
		stale: never, asleep: never, heardOf: map[hub.ID]bool{},
		up: map[*node]time.Duration{}, strange: map[*node]bool{}, missed: map[*node]bool{},
		calls: map[uint64]*joining{}, members: map[string]int{}, present: map[string]int{},
	}
	n.local = stream{from: n, to: n}
	s.nodes = append(s.nodes, n)
	s.hosts[address] = n
	if !s.deaf {
		s.keys[id], s.marks[id] = address, address
	}
	s.list()
	return n
}

// standing returns the present entries of a map of etcd.
func standing(in map[hub.ID]string) (all []Listed) {
	for _, id := range slices.Sorted(maps.Keys(in)) {
		all = append(all, Listed{id, in[id]})
	}
	return all
}

// lapsed returns the hubs with a mark and without a key.
func (s *sim) lapsed() []Listed {
	return slices.DeleteFunc(standing(s.marks), func(l Listed) bool { return s.keys[l.Hub] != "" })
}

// strikeOff removes the marks of lapsed hubs that a hub which hears etcd does not count, as the
// shell does.
func (n *node) strikeOff() {
	s := n.sim
	if n.dead || n.paused || n.listedAt < 0 || n.hearing() != never {
		return
	}
	for _, l := range s.lapsed() {
		if _, sought := n.core.lapsed[l.Hub]; sought && !n.core.CountsMember(n.clock(), l.Hub) {
			delete(s.marks, l.Hub)
		}
	}
}

// list tells every hub the present keys of etcd.
func (s *sim) list() {
	if s.deaf {
		return
	}
	all, lapsed := standing(s.keys), s.lapsed()
	for _, n := range s.nodes {
		if n.dead || n.paused || n.deaf {
			continue
		}
		if n.listedAt < 0 {
			n.listedAt = s.now
		}
		clear(n.heardOf)
		for _, l := range all {
			n.heardOf[l.Hub] = true
		}
		if n.wake() {
			n.apply(n.core.HandleKeys(n.clock(), all, lapsed))
			n.stale, n.core.deaf = never, 0
		}
	}
}

// hearing returns since when the hub has not heard etcd.
func (n *node) hearing() time.Duration {
	if n.deaf || n.sim.deaf {
		n.stale = min(n.stale, n.clock())
	}
	return n.stale
}

// clock returns the core's time.
func (n *node) clock() time.Duration { return n.sim.now - n.lag }

// next returns when the core has work to do, in the time of the sim.
func (n *node) next() time.Duration {
	if next := n.core.NextDeadline(); next < never {
		return next + n.lag
	}
	return never
}

// wake lets the core see how long the process stood still, as the shell does before each call. It
// returns false if the hub is over.
func (n *node) wake() bool {
	n.core.deaf = max(0, n.clock()-n.hearing())
	n.apply(n.core.CheckStandstill(n.clock()))
	return !n.dead
}

// kill ends a process without a farewell. Its sockets close. Its key stays until it is removed.
func (n *node) kill() {
	n.dead = true
	for _, w := range n.sim.wires {
		if w.from == n || w.to == n {
			w.end(n, true)
		}
	}
}

// key returns the hash of "u:ann", "g:lobby", "n:", and those of "u:ann,g:lobby".
func (s *sim) key(words string) (hashes []Hash) {
	for word := range strings.SplitSeq(words, ",") {
		kind, name, _ := strings.Cut(word, ":")
		kinds := map[string]Kind{
			"u": KindUser, "g": KindGroup, "c": KindConnection, "n": KindNamespace,
		}
		h := HashOf(kinds[kind], hub.DefaultNamespace, name)
		masked := uint64(h & (^Hash(0) >> (64 - s.bits)))
		if known := s.words[masked]; known == "" {
			s.words[masked] = word
		} else if !slices.Contains(strings.Split(known, "/"), word) {
			s.words[masked] = known + "/" + word
		}
		hashes = append(hashes, h)
	}
	return hashes
}

func (n *node) join(key string) {
	n.last++
	n.calls[n.last] = &joining{key, n.sim.now, n.sim.now + LeaseTime}
	n.present[key]++
	hashes := n.sim.key(key)
	number := n.last
	for _, h := range hashes {
		n.apply(n.core.AddReference(n.clock(), h))
	}
	n.apply(n.core.AwaitInForce(n.clock(), number, hashes))
}

// leave is only for keys whose join has returned.
func (n *node) leave(key string) {
	n.members[key]--
	n.present[key]--
	for _, h := range n.sim.key(key) {
		if !n.core.RemoveReference(n.clock(), h) {
			n.sim.fail("%s: %s was not added", n.id, key)
		}
	}
}

// route routes a send and checks the promise: a node that had joined before is reached, or
// reported.
func (n *node) route(key string, born ...hub.ID) Route {
	s := n.sim
	r := n.core.FindRoute(nil, n.clock(), Query{Hashes: s.key(key), Hubs: born})
	for _, m := range s.nodes {
		if m == n || m.dead || m.members[key] == 0 || slices.Contains(r.Unreachable, m.id) {
			continue
		}
		reached := slices.ContainsFunc(r.To, func(d Destination) bool { return d.Hub == m.id })
		if !reached && !n.excused(m) && !n.woken { // a woken hub's leases are out of time
			s.fail("%v: %s sends %s and misses %s", s.now, n.id, key, m.id)
		}
		// A woken hub may filter a member out by a lease that is over (doc.go): m goes on then.
		filtered := n.woken && n.core.CountsMember(n.clock(), m.id)
		m.missed[n] = m.missed[n] || !reached && !filtered && n.hearing() == never
	}
	return r
}

// send routes a send and sends it to each hub of the route.
func (n *node) send(key string, born ...hub.ID) Route {
	s, r := n.sim, n.route(key, born...)
	for _, d := range r.To {
		w := s.wire(n, d.Hub, d.Epoch)
		old := !w.to.missed[n]
		w.forward.put(s, "data", func() { w.to.receive(w, key, old) })
	}
	return r
}

// excused reports whether a send need not know of m: a hub without a key, and without a link for
// long.
func (n *node) excused(m *node) bool {
	last, met := n.up[m]
	switch {
	case n.heardOf[m.id]:
		return false
	case met:
		return n.sim.now >= last+LostGrace
	default: // the later node was cut off from the earlier when it came
		return m.waited >= readyWait || n.waited >= readyWait || n.strange[m] || m.strange[n]
	}
}

// look notes, when a hub becomes ready, the hubs of which no hub could have told it: hubs without a
// key and a mark that are unknown to each hub that it has met.
func (n *node) look() {
	for _, m := range n.sim.nodes {
		n.strange[m] = !n.heardOf[m.id] && n.sim.marks[m.id] == "" &&
			!slices.ContainsFunc(n.sim.nodes, func(o *node) bool {
				_, met := n.up[o]
				last, knows := o.up[m]
				return met && knows && !o.dead && n.sim.now < last+LostGrace-LinkTimeout
			})
	}
}

// receive gets a send. It must not take the send from a link that has been replaced. An old send
// left before any send was missed. A hub whose machine was suspended may take that.
func (n *node) receive(w *wire, key string, old bool) {
	// the shell does so when the lane opens
	if n.apply(n.core.HandleFirstUse(n.clock(), w.from.id, w.epoch)); n.dead {
		return
	}
	admitted := n.core.AdmitsLink(w.from.id, w.epoch)
	for _, other := range n.sim.wires {
		if admitted && other.from == w.from && other.to == n && other.accepted &&
			other.epoch > w.epoch {
			n.sim.fail("%s takes data of %s's link %d after link %d", n.id, w.from.id, w.epoch,
				other.epoch)
		}
	}
	if admitted && n.missed[w.from] && (!n.woken || !old) {
		n.sim.fail("%s takes data of %s, whose sends have missed it", n.id, w.from.id)
	}
	if admitted {
		n.sim.trace("%s gets %s from %s/%d, has %d", n.id, key, w.from.id, w.epoch, n.present[key])
	} else {
		n.sim.trace("%s fences %s from %s/%d", n.id, key, w.from.id, w.epoch)
	}
}

func (s *sim) node(id hub.ID) *node {
	for _, n := range slices.Backward(s.nodes) {
		if n.id == id {
			return n
		}
	}
	s.fail("no hub %s", id)
	return nil
}

func (n *node) apply(effects []Effect) {
	for _, e := range effects {
		n.perform(e)
	}
	n.links()
}

// links notes the nodes that it has a link with now.
func (n *node) links() {
	for _, m := range n.sim.nodes {
		if p := n.core.peers[m.id]; p != nil && p.hasLink() {
			n.up[m] = n.sim.now
		}
	}
}

func (n *node) perform(e Effect) {
	s := n.sim
	switch e := e.(type) {
	case Dial:
		s.trace("%s dials %s/%d", n.id, e.Hub, e.Hello.GetEpoch())
		n.dial(e)
	case HangUp:
		s.trace("%s hangs up %s/%d: %v", n.id, e.Hub, e.Epoch, e.Cause)
		for _, w := range s.wires {
			if w.from == n && w.named == e.Hub && w.epoch == e.Epoch {
				w.end(n, true)
			}
		}
	case Accept:
		w := s.wire(s.node(e.Hub), n.id, e.Hello.GetEpoch())
		for _, other := range s.wires {
			if other != w && other.from == w.from && other.to == n && other.accepted &&
				other.toOpen {
				s.fail("%s accepts %s/%d before the loops of %d are over", n.id, e.Hub, w.epoch,
					other.epoch)
			}
		}
		w.accepted = true
		s.trace("%s accepts %s/%d", n.id, e.Hub, w.epoch)
		w.back.put(s, "welcome", func() {
			w.from.apply(w.from.core.HandleLinked(w.from.clock(), w.named, w.epoch, e.Hello))
		})
	case Refuse:
		s.trace("%s refuses %s/%d: %s", n.id, e.Hub, e.Epoch,
			strings.TrimPrefix(e.Reason.String(), "REFUSAL_REASON_"))
		n.refuse(e)
	case Fence:
		s.trace("%s fences link %s/%d: %v", n.id, e.Hub, e.Epoch, e.Cause)
		w := s.wire(s.node(e.Hub), n.id, e.Epoch)
		n.local.put(s, "loops", func() { w.close(n) })
	case Suspected:
		s.trace("%s suspects %s/%d", n.id, e.Hub, e.Epoch)
	case Request:
		w := s.wire(n, e.Hub, e.Epoch)
		w.there.put(s, s.say(n, w.to, e.Message.GetBody()), func() {
			w.to.apply(w.to.core.HandleRequest(w.to.clock(), n.id, w.epoch, e.Message))
		})
	case Response:
		w := s.wire(s.node(e.Hub), n.id, e.Epoch)
		w.back.put(s, s.say(n, w.from, e.Message.GetBody()), func() {
			w.from.apply(w.from.core.HandleResponse(w.from.clock(), n.id, w.epoch, e.Message))
		})
	case InForce:
		n.returned(e.Call)
	case Gone:
		s.trace("%s forgets %s", n.id, e.Hub)
		n.strikeOff()
	case Ready:
		n.ready, n.waited = true, s.now-n.listedAt
		n.look()
		if len(e.Without) > 0 {
			s.trace("%s is ready without %v", n.id, e.Without)
			return
		}
		s.trace("%s is ready", n.id)
	case Forgotten:
		s.trace("%s is over: %v", n.id, e.Cause)
		n.kill()
		delete(s.keys, n.id)
		delete(s.marks, n.id)
		s.left = true
	}
}

func (n *node) returned(number uint64) {
	s, j := n.sim, n.calls[number]
	delete(n.calls, number)
	for word := range strings.SplitSeq(j.key, ",") {
		n.members[word]++
	}
	if number > n.quiet {
		s.trace("%s join %s returns after %v", n.id, j.key, s.now-j.begun)
	}
	if s.now > j.allowed {
		s.fail("%s: join %s takes %v", n.id, j.key, s.now-j.begun)
	}
}

func (n *node) dial(e Dial) {
	s := n.sim
	to := s.hosts[e.Address]
	if to == nil || to.dead {
		// The kernel of that machine refuses the connection.
		w := &wire{from: n, to: n, named: e.Hub, epoch: e.Hello.GetEpoch(), fromOpen: true}
		w.back = stream{from: n, to: n}
		s.wires = append(s.wires, w)
		w.back.put(s, "refused", func() {
			n.apply(n.core.HandleDialFailure(n.clock(), e.Hub, w.epoch, DialAbsent))
		})
		return
	}
	w := &wire{
		from: n, to: to, named: e.Hub, epoch: e.Hello.GetEpoch(), fromOpen: true, toOpen: true,
	}
	w.there, w.back, w.forward = stream{from: n, to: to}, stream{from: to, to: n}, stream{
		from: n, to: to,
	}
	s.wires = append(s.wires, w)
	w.there.put(s, "hello", func() {
		if w.toOpen { // a stream ends after its hello, never before
			to.apply(to.core.HandleHello(to.clock(), e.Hello))
		}
	})
}

func (n *node) refuse(e Refuse) {
	s := n.sim
	for _, w := range s.wires {
		if w.from.id != e.Hub || w.to != n || w.epoch != e.Epoch || !w.toOpen || w.accepted {
			continue
		}
		w.toOpen = false
		w.back.put(s, "refusal", func() {
			w.fromOpen = false
			w.from.apply(w.from.core.HandleDialFailure(w.from.clock(), w.named, w.epoch,
				provenBy[e.Reason]))
		})
	}
}

// say describes a message. It leaves out probes and confirmations, which are too many.
func (s *sim) say(from, to *node, body any) string {
	switch m := body.(type) {
	case *peerv1.ControlResponse_Interest:
		text := fmt.Sprintf("%s tells %s", from.id, to.id)
		if m.Interest.GetSnapshotStart() {
			text += " all:"
		}
		if n := len(m.Interest.GetAdded()); n > 10 {
			text += fmt.Sprintf(" +%d", n)
		} else {
			for _, h := range m.Interest.GetAdded() {
				text += " +" + s.words[h]
			}
		}
		for _, h := range m.Interest.GetRemoved() {
			text += " -" + s.words[h]
		}
		s.trace("%s", text)
		return "interest"
	case *peerv1.ControlRequest_GoingAway, *peerv1.ControlResponse_GoingAway:
		s.trace("%s goes away from %s", from.id, to.id)
		return "going away"
	case *peerv1.ControlRequest_Probe:
		return "probe"
	case *peerv1.ControlResponse_ProbeAnswer:
		return "answer"
	default:
		return "confirmation"
	}
}

// advance lets time pass.
func (s *sim) advance(d time.Duration) {
	until := s.now + d
	for {
		at, do := s.soonest()
		if do == nil || at > until {
			break
		}
		s.now = max(s.now, at)
		do()
		if s.left {
			s.left = false
			s.list()
		}
	}
	s.now = until
	s.wires = slices.DeleteFunc(s.wires, func(w *wire) bool {
		return !w.fromOpen && !w.toOpen && w.there.empty() && w.back.empty() && w.forward.empty()
	})
}

// soonest finds the next event.
func (s *sim) soonest() (at time.Duration, do func()) {
	at = never
	look := func(x *stream) {
		if len(x.packets) == 0 || x.packets[0].at >= at || s.holes[[2]*node{x.from, x.to}] ||
			x.to.paused {
			return
		}
		at, do = x.packets[0].at, func() {
			p := x.packets[0]
			x.packets = x.packets[1:]
			if !x.to.dead && x.to.wake() {
				p.do()
			}
		}
	}
	for _, w := range s.wires {
		look(&w.there)
		look(&w.back)
		look(&w.forward)
	}
	for _, n := range s.nodes {
		look(&n.local)
		if next := n.next(); !n.dead && !n.paused && next < at {
			at, do = next, func() {
				if !n.wake() {
					return
				}
				n.apply(n.core.HandleTick(n.clock()))
				if again := n.next(); again <= s.now {
					s.fail("%v: %s spins", s.now, n.id)
					n.paused = true // or time would stand still for ever
				}
			}
		}
	}
	return at, do
}

// check checks the conditions that hold at any time: an up-to-date table equals its hub's interest.
func (s *sim) check() {
	for _, n := range s.nodes {
		for _, m := range s.nodes {
			p := n.core.peers[m.id]
			if n.dead || m.dead || p == nil || p.out == nil || !p.out.filter.complete {
				continue
			}
			f, has := &p.out.filter, &m.core.interest
			if f.version != has.version {
				continue
			}
			all, _, _ := has.snapshotPage(0, has.len+1)
			if f.table.len != len(all) || has.len != len(all) {
				s.fail("%s knows %d hashes of %s, which has %d", n.id, f.table.len, m.id, len(all))
			}
			for _, h := range all {
				if !f.table.hasHash(h) {
					s.fail("%s does not know %x of %s", n.id, h, m.id)
				}
			}
		}
	}
	slices.SortStableFunc(s.nodes, func(a, b *node) int { return cmp.Compare(a.id, b.id) })
}

func (n *node) pause() { n.paused = true }

// suspend stops the machine, and its clock.
func (n *node) suspend() { n.paused, n.asleep = true, n.sim.now }

// resume: due work is done now. Work that was due meanwhile comes too late.
func (n *node) resume() {
	n.paused = false
	for _, j := range n.calls {
		j.allowed = max(j.allowed, n.sim.now)
	}
	if n.asleep < never {
		for _, j := range n.calls {
			j.allowed += n.sim.now - n.asleep
		}
		n.woken, n.lag, n.asleep = true, n.lag+n.sim.now-n.asleep, never
	}
	n.wake()
	n.sim.list()
}

// register restores the keys of the live hubs: each renews its lease.
func (s *sim) register() {
	for _, n := range s.nodes {
		if !n.dead && !n.deaf {
			s.keys[n.id] = n.core.us.GetAddress()
			s.marks[n.id] = s.keys[n.id]
		}
	}
	s.list()
}
