package move

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
)

// mostStates bounds how many states may pass until a sown bug is caught.
const mostStates = 5_000

// TestEverySownBugIsCaught sows bugs into the shell, each a rule of the package that is broken. The
// schedules of a small situation catch each. So they would catch a core that breaks the rule.
func TestEverySownBugIsCaught(t *testing.T) {
	for name, bug := range sownBugs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(situations, func(s small) bool { return s.name == bug.situation })
			catchBug(t, bug.wrong, &situations[i])
		})
	}
}

// catchBug fails the test if no schedule of the situation breaks a promise.
func catchBug(t *testing.T, wrong faults, s *small) {
	t.Helper()
	x := newExplorer(s)
	x.most = mostStates
	if x.explore(s.begin(wrong)) {
		t.Fatalf("no schedule of %d states catches it", len(x.seen))
	}
	history := s.repeat(wrong, x.brokenAt)
	if !strings.HasSuffix(history, x.broken+"\n") {
		t.Fatalf("the schedule does not repeat %q:\n%s", x.broken, history)
	}
	t.Logf("caught after %d states: %s", len(x.seen), x.broken)
}

// sownBug is a bug, and the situation that catches it.
type sownBug struct {
	situation string
	wrong     faults
}

func sownBugs() map[string]sownBug {
	drop := func(fits func(l *link, m Message) bool) faults {
		return faults{message: func(l *link, m Message) (Message, bool) { return m, !fits(l, m) }}
	}
	alter := func(change func(m *Message)) faults {
		return faults{message: func(_ *link, m Message) (Message, bool) {
			change(&m)
			return m, true
		}}
	}
	return map[string]sownBug{
		"a message before the mark is lost":     {"calls", faults{change: isVerb(send)}},
		"a join before the mark is lost":        {"join and send", faults{change: isVerb(join)}},
		"a leave before the mark is lost":       {"leave, grant", faults{change: isVerb(leave)}},
		"a grant before the mark is lost":       {"leave, grant", faults{change: isVerb(grant)}},
		"marks do not go to the new hub":        {"calls", drop(isMarkTo("B"))},
		"marks do not go to the old hub":        {"calls", drop(isMarkTo("A"))},
		"a new link begins without marks":       {"cut between the hubs", drop(isMarkAgain)},
		"calls are delivered before the commit": {"calls", faults{isHeldDelivered: true}},
		"held calls are lost":                   {"calls", faults{isHeldLost: true}},
		"the old hub takes a connection back": {
			"cut before the seal", faults{isBackInDoubt: true},
		},
		"the old hub does not ask for an outcome": {"cut before the seal", drop(isKind(Query))},
		"the old hub does not tell of the move": {
			"cut origin", alter(func(m *Message) { m.Moved = nil }),
		},
		"the old hub claims to have all marks":     {"cut origin", alter(claimMarks)},
		"an origin does not send calls again":      {"cut origin", drop(isKind(Resend))},
		"the new hub denies a move that it has":    {"calls", alter(denyMove)},
		"the new hub claims a move that has ended": {"cut before the seal", alter(claimMove)},
		"a move is never complete": {
			"calls", alter(func(m *Message) { m.Complete = false }),
		},
	}
}

func isVerb(v verb) func(request) bool { return func(r request) bool { return r.verb == v } }

func isKind(k Kind) func(*link, Message) bool {
	return func(_ *link, m Message) bool { return m.Kind == k }
}

func isMarkTo(to hub.ID) func(*link, Message) bool {
	return func(l *link, m Message) bool { return m.Kind == Mark && l.to == to }
}

func isMarkAgain(l *link, m Message) bool { return m.Kind == Mark && l.isSecond }

// claimMarks has the old hub say that it had all marks.
func claimMarks(m *Message) {
	if m.Kind == Last {
		m.Marked = []Origin{{"A", 0}, {"B", 0}, {"X", 0}}
	}
}

func denyMove(m *Message) {
	if m.Kind == Adopted {
		m.Kind = Never
	}
}

func claimMove(m *Message) {
	if m.Kind == Never {
		m.Kind, m.Complete = Adopted, true
	}
}

// TestEveryFieldOfAStateIsMissed forgets the fields of a connection's state, each in its turn.
func TestEveryFieldOfAStateIsMissed(t *testing.T) {
	full := &small{name: "full", hubs: []hub.ID{"A", "B"}, before: fillConnection}
	x := newExplorer(full)
	if !x.explore(full.begin(faults{})) {
		t.Fatal(x.explain(t, faults{}))
	}
	fields := reflect.TypeFor[state]()
	// The move gives the epoch. The others are notes for the checks.
	notes := []string{"epoch", "dropped", "history", "last"}
	for field := range fields.Fields() {
		name := field.Name
		if slices.Contains(notes, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			forget, ok := forgets[name]
			if !ok {
				t.Fatal("no test forgets it")
			}
			catchBug(t, faults{field: forget}, full)
		})
	}
}

// fillConnection gives each field of c's state a value, and begins a move.
func fillConnection(w *world) {
	for _, r := range []request{{verb: join, group: "g"}, {verb: grant}, {verb: send}} {
		w.issue(w.nodes[0], 0, r.verb, r.group)
		for _, p := range w.pairs() {
			w.deliverAll(p)
		}
	}
	t := w.clients["c"]
	t.read()
	t.ack()
	t.command()
	for _, p := range w.pairs() {
		w.issue(w.nodes[0], 0, send, "")
		t.read()
		w.deliverAll(p)
	}
	w.issue(w.nodes[0], 0, send, "")
	startDrain(w)
}

//nolint:gochecknoglobals // a table
var forgets = map[string]func(*state){
	"outbox":   func(s *state) { s.outbox, s.numbered = nil, 0 },
	"numbered": func(s *state) { s.numbered = 0 },
	"acked":    func(s *state) { s.acked = 0 },
	"groups":   func(s *state) { s.groups = nil },
	"grants":   func(s *state) { s.grants = nil },
	"done":     func(s *state) { s.done = nil },
	"events":   func(s *state) { s.events = 0 },
}
