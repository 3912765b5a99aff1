package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// seeds is how many histories each test makes.
const seeds = 60

// TestTrueHistoriesPass proves that the rules accept each history that a cluster may have.
func TestTrueHistoriesPass(t *testing.T) {
	arrivals, unreachable, demanded := 0, 0, 0
	for seed := range uint64(seeds) {
		w := newWorld(seed)
		for _, v := range Judge(w.History, NoMoves) {
			t.Fatalf("seed %d: %+v\n%s", seed, v, Excerpt(w.History, v, 60))
		}
		demanded += CountDemands(w.History, NoMoves)
		for _, e := range w.Events {
			if e.Kind == Arrived {
				arrivals++
			}
			unreachable += len(e.Receipt.Unreachable)
		}
	}
	if demanded < arrivals/2 || arrivals < 100*seeds || unreachable < seeds {
		t.Errorf("%d messages, %d of them had to come, %d hubs named: the histories prove little",
			arrivals, demanded, unreachable)
	}
}

// picker draws a number below n.
type picker func(n int) int

// seededFaults make a true history wrong, at a place that the model says is certain. Each returns
// false if the history has no such place.
var seededFaults = []struct {
	name, rule string
	spoil      func(w *world, m *model, pick picker) bool
}{
	{"a message is lost", "lost", func(w *world, m *model, pick picker) bool {
		c, i := pickFirst(m, pick, func(c *connection, i int) bool {
			s := c.firsts[i]
			return m.isDemanded(s, c) && hasLater(c, i, s.last().ended)
		})
		if c == nil {
			return false
		}
		w.remove(func(e Event) bool {
			return e.Kind == Arrived && e.Connection == c.id && e.Send == c.firsts[i].number
		})
		return true
	}},
	{"a message comes twice", "doubled", func(w *world, m *model, pick picker) bool {
		c, i := pickFirst(m, pick, func(c *connection, i int) bool {
			return i == len(c.firsts)-1 && c.arrivals[len(c.arrivals)-1].send == c.firsts[i]
		})
		if c == nil {
			return false
		}
		at := c.arrivals[len(c.arrivals)-1].index
		again := w.Events[at]
		if again.Sequence > 0 {
			again.Sequence++
		}
		w.Events = slices.Insert(w.Events, at+1, again)
		_ = i
		return true
	}},
	{"two messages change places", "reordered", func(w *world, m *model, pick picker) bool {
		c, i := pickFirst(m, pick, func(c *connection, i int) bool {
			if i+1 == len(c.firsts) {
				return false
			}
			s, next := c.firsts[i], c.firsts[i+1]
			isAfter := m.isClean(s, c) && beginsAfter(next, s.last().ended)
			isStreamed := s.last().stream > 0 && s.last().stream == next.last().stream
			return isAfter || isStreamed && beginsAfter(next, s.begun())
		})
		if c == nil {
			return false
		}
		one, two := c.firsts[i].number, c.firsts[i+1].number
		// A message can't come before it was sent, so both come late.
		w.moveBehind(c, one, two)
		return true
	}},
	{"a send in transfer falls behind its caller's next", "reordered", func(
		w *world, m *model, pick picker,
	) bool {
		c, i := pickFirst(m, pick, func(c *connection, i int) bool {
			if i+1 == len(c.firsts) {
				return false
			}
			s, next := c.firsts[i], c.firsts[i+1]
			of, ok := s.source()
			ofNext, nextOk := next.source()
			return ok && nextOk && of == ofNext && m.isClean(s, c) &&
				beginsAfter(next, s.last().ended)
		})
		if c == nil {
			return false
		}
		w.Events[c.firsts[i].last().ended].Receipt.InTransfer = 1
		w.moveBehind(c, c.firsts[i].number, c.firsts[i+1].number)
		return true
	}},
	{"a receipt counts an ack too much", "acked", func(w *world, _ *model, pick picker) bool {
		i := pickAnswer(w, pick, func(Event) bool { return true })
		w.Events[i].Receipt.Acked = len(w.Clients) + 1
		return i > 0
	}},
	{"a receipt leaves a connection out", "receipt", func(w *world, m *model, pick picker) bool {
		i := pickAnswer(w, pick, func(e Event) bool {
			least, _ := m.countMatches(m.sends[e.Send])
			return least > 0
		})
		if i < 0 {
			return false
		}
		least, _ := m.countMatches(m.sends[w.Events[i].Send])
		w.Events[i].Receipt.Matched, w.Events[i].Receipt.States = least-1, least-1
		return true
	}},
	{"a receipt counts too many", "receipt", func(w *world, m *model, pick picker) bool {
		i := pickAnswer(w, pick, func(Event) bool { return true })
		_, most := m.countMatches(m.sends[w.Events[i].Send])
		w.Events[i].Receipt.Matched, w.Events[i].Receipt.States = most+1, most+1
		return i > 0
	}},
	{"a receipt does not add up", "receipt", func(w *world, _ *model, pick picker) bool {
		i := pickAnswer(w, pick, func(Event) bool { return true })
		w.Events[i].Receipt.States++
		return i > 0
	}},
	{"a receipt calls a message dropped", "receipt", func(w *world, m *model, pick picker) bool {
		i := pickAnswer(w, pick, func(e Event) bool {
			least, _ := m.countMatches(m.sends[e.Send])
			return least > 0 && e.Receipt.Matched == least
		})
		if i < 0 {
			return false
		}
		w.Events[i].Receipt.Dropped++
		return true
	}},
	{"a message comes to a stranger", "stray", func(w *world, m *model, pick picker) bool {
		c, i := pickFirst(m, pick, func(c *connection, i int) bool {
			return !c.firsts[i].target.Everyone
		})
		if c == nil {
			return false
		}
		w.retarget(c.firsts[i].number, Target{User: "nobody"})
		return true
	}},
	{"a sequence id is left out", "gap", func(w *world, m *model, pick picker) bool {
		c, _ := pickFirst(m, pick, func(c *connection, _ int) bool {
			n := len(c.arrivals)
			return n > 1 && c.arrivals[0].sequence > 0 &&
				c.arrivals[n-1].link == c.arrivals[n-2].link
		})
		if c == nil {
			return false
		}
		last := c.arrivals[len(c.arrivals)-1].index
		w.Events[last].Sequence++
		return true
	}},
}

// TestSeededFaultsAreCaught proves that each rule finds its fault wherever it is, and names it.
func TestSeededFaultsAreCaught(t *testing.T) {
	for _, fault := range seededFaults {
		t.Run(fault.name, func(t *testing.T) {
			spoiled := 0
			for seed := range uint64(seeds) {
				w := newWorld(seed)
				if !fault.spoil(w, newModel(w.History, NoMoves), w.random.IntN) {
					continue
				}
				spoiled++
				found := Judge(w.History, NoMoves)
				isCaught := slices.ContainsFunc(found, func(v Violation) bool {
					return v.Rule == fault.rule
				})
				if !isCaught {
					t.Fatalf("seed %d: not caught by %s, but found %+v", seed, fault.rule, found)
				}
			}
			if spoiled < seeds/2 {
				t.Errorf("%d of %d histories have a place for the fault", spoiled, seeds)
			}
		})
	}
}

// hasLater reports whether another message behind the message i began after an index.
func hasLater(c *connection, i, at int) bool {
	for _, s := range c.firsts[i+1:] {
		if beginsAfter(s, at) {
			return true
		}
	}
	return false
}

// pickFirst picks a connection and a message of it that suit.
func pickFirst(
	m *model, pick picker, suits func(c *connection, i int) bool,
) (*connection, int) {
	type place struct {
		c *connection
		i int
	}
	var all []place
	for _, c := range m.listed {
		for i := range c.firsts {
			if suits(c, i) {
				all = append(all, place{c, i})
			}
		}
	}
	if len(all) == 0 {
		return nil, 0
	}
	p := all[pick(len(all))]
	return p.c, p.i
}

// pickAnswer picks the answer of a send that suits; -1: there is none.
func pickAnswer(w *world, pick picker, suits func(Event) bool) int {
	var all []int
	for i, e := range w.Events {
		if e.Kind == Answered && suits(e) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return -1
	}
	return all[pick(len(all))]
}

func (w *world) remove(isOut func(Event) bool) {
	w.Events = slices.DeleteFunc(w.Events, isOut)
}

// moveBehind gives the place of the second message, and a place right behind it, to both messages
// in the opposite order.
func (w *world) moveBehind(c *connection, one, two int) {
	w.remove(func(e Event) bool {
		return e.Kind == Arrived && e.Connection == c.id && e.Send == one
	})
	at := slices.IndexFunc(w.Events, func(e Event) bool {
		return e.Kind == Arrived && e.Connection == c.id && e.Send == two
	})
	late := w.Events[at]
	late.Send = one
	if late.Sequence > 0 {
		w.Events[at].Sequence--
	}
	w.Events = slices.Insert(w.Events, at+1, late)
}

func (w *world) retarget(send int, to Target) {
	for i, e := range w.Events {
		if e.Kind == Sent && e.Send == send {
			w.Events[i].Target = to
		}
	}
}

// step makes an event of a client's life or of a backend's call, in the histories below.
var (
	aClient  = Client{User: "user", Groups: []string{"own"}, Reliable: true}
	dials    = Event{Kind: Dialled, Link: 1, Hub: "hub1"}
	connects = Event{Kind: Connected, Link: 1, Connection: "hub1.1"}
	loses    = Event{Kind: Lost, Link: 1, Connection: "hub1.1"}
	resumes  = Event{Kind: Dialled, Link: 2, Hub: "hub1", Connection: "hub1.1"}
	isBack   = Event{Kind: Connected, Link: 2, Connection: "hub1.1"}
	refused  = Event{Kind: Refused, Link: 2, Connection: "hub1.1", Hub: "hub1"}
	kicks    = Event{Kind: Kicking, Connection: "hub1.1"}
	kicked   = Event{
		Kind: Kicked, Connection: "hub1.1", Outcome: Succeeded, Receipt: Receipt{Matched: 1},
	}
	isTold   = Event{Kind: Disconnected, Connection: "hub1.1"}
	sends    = Event{Kind: Sent, Send: 1, Target: Target{User: "user"}, Hub: "hub2"}
	answered = Event{
		Kind: Answered, Send: 1, Outcome: Succeeded, Receipt: Receipt{Matched: 1, States: 1},
	}
	arrives   = Event{Kind: Arrived, Link: 1, Connection: "hub1.1", Send: 1, Sequence: 1}
	publishes = Event{
		Kind: Published, Link: 1, Connection: "hub1.1", Send: 1, Target: Target{Group: "own"},
	}
	confirms = Event{Kind: Confirmed, Link: 1, Connection: "hub1.1", Send: 1}
	joins    = Event{Kind: Joining, Connection: "hub1.1", Group: "late"}
	joined   = Event{Kind: Joined, Connection: "hub1.1", Group: "late", Outcome: Succeeded}
	stops    = Event{Kind: Stopping, Hub: "hub1"}
	kills    = Event{Kind: Killing, Hub: "hub1"}
)

// at returns the event at another hub.
func (e Event) at(hub string) Event {
	e.Hub = hub
	return e
}

func (e Event) onLink(link int) Event {
	e.Link = link
	return e
}

// TestVerdicts holds each rule to short histories that break it, and to similar ones that don't.
func TestVerdicts(t *testing.T) {
	second := sends
	second.Send = 2
	outsider := sends
	outsider.Target = Target{Group: "late"}
	toOne := answered
	toOne.Receipt = Receipt{}
	unreachable := answered
	unreachable.Receipt = Receipt{Unreachable: []string{"hub1"}}
	unknown := answered
	unknown.Outcome, unknown.Receipt = Unknown, Receipt{}
	inTransfer := answered
	inTransfer.Receipt.InTransfer = 1
	overtakes := arrives
	overtakes.Send = 2
	isLate := arrives
	isLate.Sequence = 2
	overtakes2 := overtakes
	overtakes2.Sequence = 2
	nextPublish := publishes
	nextPublish.Send = 2
	ofOther := second
	ofOther.Caller = 1
	for _, c := range []struct {
		name   string
		moves  Moves
		rule   string // empty: none is broken
		events []Event
	}{
		{
			"a message behind a kick", NoMoves, "zombie",
			[]Event{dials, connects, kicks, kicked, sends, arrives, answered},
		},
		{
			"a message during a kick", NoMoves, "",
			[]Event{dials, connects, kicks, sends, arrives, answered, kicked},
		},
		{
			"a kicked client is back", NoMoves, "zombie",
			[]Event{dials, connects, kicks, kicked, loses, resumes, isBack},
		},
		{
			"a kicked client was back before", NoMoves, "",
			[]Event{dials, connects, loses, kicks, resumes, kicked, isBack},
		},
		{
			"a message behind the event that the connection is over", NoMoves, "disconnected",
			[]Event{dials, connects, isTold, sends, arrives, answered},
		},
		{
			"a client is back behind the event of its end", NoMoves, "disconnected",
			[]Event{dials, connects, loses, isTold, resumes, isBack},
		},
		{
			"the event comes while the message is on its way", NoMoves, "",
			[]Event{dials, connects, sends, isTold, arrives, answered},
		},
		{
			"a running hub refuses its client", NoMoves, "refused",
			[]Event{dials, connects, loses, resumes, refused},
		},
		{
			"a hub refuses a kicked client", NoMoves, "",
			[]Event{dials, connects, loses, kicks, resumes, refused},
		},
		{
			"a hub that stops refuses its client", NoMoves, "",
			[]Event{dials, connects, stops, loses, resumes, refused},
		},
		{
			"a different hub refuses", NoMoves, "",
			[]Event{dials, connects, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a different hub refuses although connections move", Drains, "survives",
			[]Event{dials, connects, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a stopped hub's client is refused although connections move", Drains, "survives",
			[]Event{dials, connects, stops, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a stopped hub's client is refused although its clients move", Takes, "",
			[]Event{dials, connects, stops, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a client is refused, and a hub that it never saw has stopped", Takes, "survives",
			[]Event{dials, connects, loses, stops.at("hub2"), resumes, refused},
		},
		{
			"a different hub refuses although clients move", Takes, "survives",
			[]Event{dials, connects, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a killed hub's client is refused", Drains, "",
			[]Event{dials, connects, kills, loses, resumes.at("hub2"), refused.at("hub2")},
		},
		{
			"a client of a hub that was killed after its move is refused", Drains, "",
			[]Event{
				dials, connects, loses, resumes.at("hub2"), isBack, kills.at("hub2"),
				{Kind: Lost, Link: 2, Connection: "hub1.1"},
				resumes.at("hub3").onLink(3), refused.at("hub3").onLink(3),
			},
		},
		{
			"a client of a hub that was killed after a drain is refused", Drains, "",
			[]Event{
				dials, connects, stops, loses, kills.at("hub2"),
				resumes.at("hub3"), refused.at("hub3"),
			},
		},
		{
			"a client of a hub that was killed during its resume is refused", Drains, "",
			[]Event{
				dials, connects, loses, resumes.at("hub2"),
				{Kind: Failed, Link: 2},
				kills.at("hub2"), resumes.onLink(3), refused.onLink(3),
			},
		},
		{
			"a client is refused, and a hub that it never saw was killed", Drains, "survives",
			[]Event{dials, connects, loses, kills.at("hub2"), resumes, refused},
		},
		{
			"a client is closed with 1008", Drains, "survives",
			[]Event{dials, connects, {Kind: Lost, Link: 1, Connection: "hub1.1", Code: 1008}},
		},
		{
			"a message to a group that nobody joined", NoMoves, "stray",
			[]Event{dials, connects, outsider, arrives, toOne},
		},
		{
			"a message to a group during a join", NoMoves, "",
			[]Event{dials, connects, joins, outsider, arrives, answered},
		},
		{
			"a message of a send that was over before its connection", NoMoves, "stray",
			[]Event{sends, toOne, dials, connects, arrives},
		},
		{
			"the same, but the hub was unreachable", NoMoves, "",
			[]Event{sends, unreachable, dials, connects, arrives},
		},
		{
			"the same, but the outcome is unknown", NoMoves, "",
			[]Event{sends, unknown, dials, connects, arrives},
		},
		{"a join that found nothing", NoMoves, "member", []Event{
			dials, connects, joins, joined, sends, arrives, answered,
		}},
		{
			"a join that found nothing, of a connection that may be over", NoMoves, "",
			[]Event{dials, connects, sends, arrives, answered, joins, joined},
		},
		{"a replay on the next link", NoMoves, "", []Event{
			dials, connects, sends, arrives, answered, loses, resumes, isBack, arrives.onLink(2),
		}},
		{"a replay of a different message", NoMoves, "gap", []Event{
			dials, connects, sends, arrives, answered, second, loses, resumes, isBack,
			{Kind: Arrived, Link: 2, Connection: "hub1.1", Send: 2, Sequence: 1},
		}},
		{
			"a retry comes again to a connection that may have moved", Takes, "",
			[]Event{
				dials, connects, sends, arrives, unknown, loses, resumes, isBack, sends,
				isLate.onLink(2), answered,
			},
		},
		{
			"a retry comes again to a connection that has not moved", Takes, "doubled",
			[]Event{dials, connects, sends, arrives, unknown, sends, isLate, answered},
		},
		{
			"a publish comes back", Takes, "",
			[]Event{dials, connects, publishes, arrives, confirms, second, overtakes2},
		},
		{
			"a publish with an ack never comes back", Takes, "published",
			[]Event{dials, connects, publishes, confirms, second, overtakes},
		},
		{
			"a publish without an ack never comes back", Takes, "",
			[]Event{dials, connects, publishes, second, overtakes},
		},
		{
			"a publish that is made again comes twice", Takes, "doubled",
			[]Event{
				dials, connects, publishes, arrives, loses, resumes, isBack, publishes.onLink(2),
				isLate.onLink(2), confirms.onLink(2),
			},
		},
		{
			"two publishes change places", Takes, "published",
			[]Event{dials, connects, publishes, nextPublish, overtakes, isLate},
		},
		{
			"a later send comes first", Takes, "reordered",
			[]Event{dials, connects, sends, answered, second.at("hub3"), overtakes, isLate},
		},
		{
			"a later send through another hub comes before a send in transfer",
			Takes, "",
			[]Event{dials, connects, sends, inTransfer, second.at("hub3"), overtakes, isLate},
		},
		{
			"a later send through the same hub comes before a send in transfer", Takes,
			"reordered",
			[]Event{dials, connects, sends, inTransfer, second, overtakes, isLate},
		},
		{
			"a later send of another caller comes before a send in transfer",
			Takes, "",
			[]Event{dials, connects, sends, inTransfer, ofOther, overtakes, isLate},
		},
		{
			"a later send comes before a send in transfer that went through two hubs",
			Takes, "",
			[]Event{
				dials, connects, sends.at("hub3"), unknown, sends, inTransfer, second,
				overtakes, isLate,
			},
		},
		{
			"a replay on the same link", NoMoves, "doubled",
			[]Event{dials, connects, sends, arrives, arrives, answered},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := Judge(History{Clients: []Client{aClient}, Events: c.events}, c.moves)
			switch {
			case c.rule == "" && len(found) > 0:
				t.Errorf("found %+v", found)
			case c.rule != "" && !slices.ContainsFunc(found, func(v Violation) bool {
				return v.Rule == c.rule
			}):
				t.Errorf("found %+v, want %s", found, c.rule)
			}
		})
	}
}

// TestExcerptShowsTheViolation proves that a person finds the event, its cause and the faults.
func TestExcerptShowsTheViolation(t *testing.T) {
	h := History{Clients: []Client{aClient}, Events: []Event{
		dials, connects,
		{Kind: Struck, Fault: "cut", Hub: "hub1", At: time.Second},
		{Kind: Sent, Send: 7, Target: Target{Group: "other"}},
		kicks, kicked, sends, arrives, answered,
	}}
	found := findZombies(newModel(h, NoMoves))
	if len(found) != 1 {
		t.Fatalf("found %+v, want one violation", found)
	}
	text := Excerpt(h, found[0], 20)
	for _, want := range []string{
		"    1.000s struck    fault=cut hub=hub1", "kicked", "sent      send=1 caller=0",
		">     0.000s arrived   send=1 client=0 link=1 connection=hub1.1 sequence=1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "send=7") {
		t.Errorf("a send that has nothing to do with it in\n%s", text)
	}
	if lines := strings.Count(Excerpt(h, found[0], 3), "\n"); lines != 3 {
		t.Errorf("%d lines, want 3", lines)
	}
}

// TestHitsCountSendsUnderWay proves that a fault counts as a hit only while a send has no answer.
func TestHitsCountSendsUnderWay(t *testing.T) {
	cut := Event{Kind: Struck, Fault: "cut"}
	hits := CountHits(History{Events: []Event{cut, sends, cut, answered, cut}})
	if got, want := hits["cut"], (Hits{Struck: 3, InFlight: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestEachRuleHasItsPromise proves that a report can name the broken promise.
func TestEachRuleHasItsPromise(t *testing.T) {
	for _, r := range rules {
		if Promise(r.name) != r.promise || r.promise == "" {
			t.Errorf("rule %s has the promise %q", r.name, Promise(r.name))
		}
	}
}
