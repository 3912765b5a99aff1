package move

import (
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

var schedule = flag.String("schedule", "", "the steps of a small schedule to repeat: 0,2,1")

// small is a situation of which every schedule is tried: each order of messages, calls and faults.
type small struct {
	name   string
	hubs   []hub.ID
	before func(w *world) // sets the situation up
	calls  []planned      // those of a hub begin in this order
	resume []hub.ID       // the client comes to these hubs, in this order
	cuts   []pair         // one of these links is cut
	stops  []hub.ID       // one of these hubs stops
	ticks  int            // how often time may pass before it must
	// isFiltered: hubs leave a peer out of calls until they have heard of its interest.
	isFiltered bool
}

// planned is a call of a schedule.
type planned struct {
	hub   hub.ID
	verb  verb
	group string
}

// explorer tries all schedules of a situation.
type explorer struct {
	situation *small
	seed      maphash.Seed
	key       key
	seen      map[uint64]struct{}
	most      int // states; 0: no limit
	ends      int // schedules that ended in a different state
	path      []int
	broken    string
	brokenAt  []int
}

func newExplorer(s *small) *explorer {
	return &explorer{situation: s, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
}

// progress is a world in a schedule, and what is left to happen.
type progress struct {
	*world

	called  map[hub.ID]int // calls begun
	resumed int
	cut     bool
	cutPair pair
	stopped bool
	ticks   int
}

// step is an event that can happen next.
type step struct {
	do func(p *progress)
	// isFault says that it need not happen.
	isFault bool
}

func (s *small) begin(wrong faults) *progress {
	w := newWorld(1, s.hubs...)
	w.fail = func(format string, args ...any) { panic(broken(fmt.Sprintf(format, args...))) }
	w.joinAll()
	w.wrong, w.isFiltered = wrong, s.isFiltered
	w.connect(w.nodes[0], "c")
	if s.before != nil {
		s.before(w)
	}
	return &progress{world: w, called: map[hub.ID]int{}}
}

// broken is a promise that is broken.
type broken string

func (p *progress) clone() *progress {
	made := *p
	made.world = p.world.clone()
	made.called = maps.Clone(p.called)
	return &made
}

// steps returns all that can happen next.
func (s *small) steps(p *progress) (all []step) {
	if p.ticks < s.ticks && p.nextDeadline() != never {
		all = append(all, step{isFault: true, do: func(p *progress) {
			p.ticks++
			p.tick(p.nextDeadline())
		}})
	}
	for _, from := range p.waiting() {
		all = append(all, step{do: func(p *progress) { p.deliver(from) }})
	}
	next := map[hub.ID]int{}
	for _, c := range s.calls {
		if i := next[c.hub]; i == p.called[c.hub] && !p.node(c.hub).dead {
			all = append(all, step{do: func(p *progress) {
				p.called[c.hub]++
				p.issue(p.node(c.hub), 0, c.verb, c.group)
			}})
		}
		next[c.hub]++
	}
	if p.resumed < len(s.resume) {
		all = append(all, step{do: func(p *progress) {
			p.resumed++
			p.clients["c"].resume(p.node(s.resume[p.resumed-1]))
		}})
	}
	return append(all, s.faults(p)...)
}

func (s *small) faults(p *progress) (all []step) {
	if !p.cut {
		for _, at := range s.cuts {
			if !p.links[at].isUp {
				continue
			}
			all = append(all, step{isFault: true, do: func(p *progress) {
				p.cut, p.cutPair = true, at
				p.cutDialled(at)
			}}, step{isFault: true, do: func(p *progress) {
				p.cut, p.cutPair = true, at
				p.endAccepted(at)
			}})
		}
	}
	if !p.stopped {
		for _, id := range s.stops {
			all = append(all, step{isFault: true, do: func(p *progress) {
				p.stopped = true
				p.stop(p.node(id))
			}})
		}
	}
	dialled, accepted := p.halfOver()
	for _, at := range dialled {
		all = append(all, step{do: func(p *progress) { p.cutDialled(at) }})
	}
	for _, at := range accepted {
		all = append(all, step{do: func(p *progress) { p.endAccepted(at) }})
	}
	for _, n := range p.nodes {
		if p.canDeclare(n) {
			all = append(all, step{do: func(p *progress) { p.declare(p.node(n.id)) }})
		}
	}
	if p.cut && p.canDial(p.cutPair) {
		all = append(all, step{do: func(p *progress) { p.dial(p.cutPair) }})
	}
	return all
}

// explore tries all schedules from here on. It returns false when a promise is broken.
func (x *explorer) explore(p *progress) bool {
	h := p.hash(x.seed, &x.key) ^ uint64(p.resumed)<<1 ^ uint64(p.ticks)<<3
	if p.cut {
		h ^= 1 << 5
	}
	if p.stopped {
		h ^= 1 << 6
	}
	if _, seen := x.seen[h]; seen || x.most > 0 && len(x.seen) >= x.most {
		return true
	}
	x.seen[h] = struct{}{}
	all := x.situation.steps(p)
	if !slices.ContainsFunc(all, func(s step) bool { return !s.isFault }) {
		x.ends++
		if !x.try(p.clone(), (*progress).finish) {
			return false
		}
	}
	for i := range all {
		next := p
		if i < len(all)-1 {
			next = p.clone()
		}
		x.path = append(x.path, i)
		good := x.try(next, all[i].do) && x.explore(next)
		x.path = x.path[:len(x.path)-1]
		if !good {
			return false
		}
	}
	return true
}

// finish lets all come to an end, and the client come back.
func (p *progress) finish() {
	p.heal()
	p.clients["c"].checkClient()
}

// try makes a step, and checks it.
func (x *explorer) try(p *progress, do func(*progress)) (good bool) {
	defer func() {
		if text, ok := recover().(broken); ok {
			good, x.broken, x.brokenAt = false, string(text), append([]int(nil), x.path...)
		}
	}()
	do(p)
	p.endFenced()
	p.checkOwners()
	return true
}

// repeat plays a single schedule, and returns its history.
func (s *small) repeat(wrong faults, path []int) string {
	var out strings.Builder
	p := s.begin(wrong)
	p.trace = func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	x := &explorer{situation: s}
	for _, i := range path {
		all := s.steps(p)
		if i >= len(all) {
			return out.String() + "no such step\n"
		}
		if !x.try(p, all[i].do) {
			return out.String() + x.broken + "\n"
		}
	}
	if !x.try(p, (*progress).finish) {
		return out.String() + x.broken + "\n"
	}
	return out.String() + "all promises are kept\n"
}

// explain tells how to repeat a schedule that breaks a promise.
func (x *explorer) explain(t *testing.T, wrong faults) string {
	numbers := make([]string, len(x.brokenAt))
	for i, n := range x.brokenAt {
		numbers[i] = strconv.Itoa(n)
	}
	return fmt.Sprintf("%s\nrepeat it: go test -run '^%s$' -schedule %s\n%s", x.broken, t.Name(),
		strings.Join(numbers, ","), x.situation.repeat(wrong, x.brokenAt))
}

// situations have some thousand states each.
//
//nolint:gochecknoglobals // a table
var situations = []small{
	{
		name: "calls", hubs: []hub.ID{"A", "B", "X"}, before: startDrain,
		calls: []planned{{"X", send, ""}, {"X", send, ""}},
	},
	{
		name: "join and send", hubs: []hub.ID{"A", "B", "X"}, before: announceDrain,
		calls: []planned{{"X", join, "g"}, {"B", send, "g"}},
	},
	{
		name: "leave, grant", hubs: []hub.ID{"A", "B"}, before: joinAndDrain,
		calls: []planned{{"A", leave, "g"}, {"A", grant, ""}, {"B", send, "g"}},
	},
	{
		name: "calls at both ends", hubs: []hub.ID{"A", "B"}, before: announceDrain,
		calls: []planned{{"A", join, "g"}, {"B", send, "g"}, {"A", send, ""}}, ticks: 1,
	},
	{
		name: "close", hubs: []hub.ID{"A", "B"}, before: startDrain,
		calls: []planned{{"B", send, ""}, {"B", closes, ""}}, cuts: []pair{{"A", "B"}},
	},
	{
		name: "cut origin", hubs: []hub.ID{"A", "B", "X"}, before: markDrain,
		calls: []planned{{"X", send, ""}, {"X", send, ""}}, ticks: 1,
	},
	{
		name: "cut origin, filtered", hubs: []hub.ID{"A", "B", "X"}, before: markDrain,
		calls: []planned{{"X", send, ""}, {"X", send, ""}}, ticks: 1, isFiltered: true,
	},
	{
		name: "cut between the hubs", hubs: []hub.ID{"A", "B"}, before: announceDrain,
		calls: []planned{{"A", send, ""}, {"B", send, ""}}, cuts: []pair{{"A", "B"}, {"B", "A"}},
	},
	{
		name: "cut before the seal", hubs: []hub.ID{"A", "B"}, before: passMarks,
		calls: []planned{{"B", send, ""}}, cuts: []pair{{"A", "B"}}, stops: []hub.ID{"B"},
	},
	{
		name: "let go in doubt", hubs: []hub.ID{"A", "B", "X"}, before: doubt,
		calls: []planned{{"X", send, ""}, {"A", send, ""}}, resume: []hub.ID{"A"}, ticks: 1,
	},
	{
		name: "take in doubt", hubs: []hub.ID{"A", "B", "X"}, before: doubt,
		resume: []hub.ID{"X", "X"}, ticks: 1,
	},
	{
		name: "cut before the marks", hubs: []hub.ID{"A", "B"}, before: startDrain,
		calls: []planned{{"B", send, ""}}, cuts: []pair{{"A", "B"}, {"B", "A"}}, ticks: 1,
	},
	{
		name: "cut between origin and old hub", hubs: []hub.ID{"A", "B", "X"}, before: markDrain,
		calls: []planned{{"X", send, ""}}, cuts: []pair{{"X", "A"}}, ticks: 1,
	},
	{
		name: "cut between origin and new hub", hubs: []hub.ID{"A", "B", "X"}, before: markDrain,
		calls: []planned{{"X", send, ""}}, cuts: []pair{{"X", "B"}}, ticks: 1,
	},
	{
		name: "stop", hubs: []hub.ID{"A", "B"}, before: startDrain,
		calls: []planned{{"A", send, ""}, {"B", send, ""}}, stops: []hub.ID{"A", "B"},
	},
	{
		name: "two takers", hubs: []hub.ID{"A", "B", "X"}, resume: []hub.ID{"B", "X"},
	},
	{
		name: "take, with a cut", hubs: []hub.ID{"A", "B"}, resume: []hub.ID{"B", "B"},
		calls: []planned{{"A", send, ""}}, cuts: []pair{{"A", "B"}, {"B", "A"}},
	},
}

// startDrain has A begin to move c to B.
func startDrain(w *world) {
	effects, _ := w.nodes[0].core.StartMove(w.now, "c", "B")
	w.nodes[0].perform(effects)
}

// announceDrain is startDrain up to the announcement, which has not arrived.
func announceDrain(w *world) {
	startDrain(w)
	w.deliver(stream{pair{"A", "B"}, true, 0})
}

// joinAndDrain is announceDrain of a member of g.
func joinAndDrain(w *world) {
	w.issue(w.nodes[0], 0, join, "g")
	for _, p := range w.pairs() {
		w.deliverAll(p)
	}
	announceDrain(w)
}

// passMarks is announceDrain up to the mark of A. That of B is on its way.
func passMarks(w *world) {
	announceDrain(w)
	for range 2 {
		w.deliver(stream{pair{"A", "B"}, false, 0})
	}
}

// doubt is passMarks up to the seal. The last changes are on their way, and A has lost the link.
func doubt(w *world) {
	passMarks(w)
	for _, p := range []pair{{"X", "B"}, {"X", "A"}, {"B", "A"}} {
		w.deliverAll(p)
	}
	w.cutDialled(pair{"A", "B"})
}

// markDrain is announceDrain up to the marks of A and B. X has not heard of the move.
func markDrain(w *world) {
	announceDrain(w)
	w.deliverAll(pair{"A", "B"})
	w.deliverAll(pair{"B", "A"})
	w.deliverAll(pair{"A", "B"})
}

// TestEverySmallScheduleKeepsThePromises tries each order in which messages, calls and faults of a
// few small situations can happen.
func TestEverySmallScheduleKeepsThePromises(t *testing.T) {
	for i := range situations {
		s := &situations[i]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if *schedule != "" {
				t.Log(s.repeat(faults{}, parseSchedule(t, *schedule)))
				return
			}
			x := newExplorer(s)
			if testkit.RaceEnabled {
				x.most = 400
			}
			if !x.explore(s.begin(faults{})) {
				t.Fatal(x.explain(t, faults{}))
			}
			t.Logf("%d states, %d ends", len(x.seen), x.ends)
		})
	}
}

func parseSchedule(t *testing.T, text string) (path []int) {
	for number := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		path = append(path, n)
	}
	return path
}
