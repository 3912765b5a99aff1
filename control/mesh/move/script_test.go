package move

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// TestScripts plays the scenarios in testdata (testkit.PlayScripts). In every scenario the world
// also checks the promises of the package, and at the end that each move ends.
func TestScripts(t *testing.T) {
	testkit.PlayScripts(t, func(t *testing.T) func([]string) (string, error) {
		p := &player{}
		return func(words []string) (effects string, err error) {
			p.out.Reset()
			if words[0] == "hubs" {
				p.begin(t, words[1:])
				return "", nil
			}
			if err := p.run(words); err != nil {
				return "", err
			}
			p.world.checkOwners()
			return p.out.String(), nil
		}
	})
}

// player runs the commands of a scenario.
type player struct {
	world *world
	out   strings.Builder
}

// begin makes hubs that have links: "hubs A B C". The first has the connection c.
func (p *player) begin(t *testing.T, names []string) {
	ids := make([]hub.ID, len(names))
	for i, name := range names {
		ids[i] = hub.ID(name)
	}
	w := newWorld(1, ids...)
	w.fail = func(format string, args ...any) {
		w.trace("BROKEN: "+format, args...)
		t.Errorf(format, args...)
	}
	w.joinAll()
	w.trace = func(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }
	w.connect(w.nodes[0], "c")
	p.world = w
}

// commands, with the least number of words behind each.
var commands = map[string]struct {
	words int
	run   func(w *world, words []string)
}{
	// drain A B: A moves c to B
	"drain": {2, func(w *world, words []string) {
		effects, begun := w.name(words[0]).core.StartMove(w.now, "c", hub.ID(words[1]))
		w.name(words[0]).perform(effects)
		if !begun {
			w.trace("%s can't move c", words[0])
		}
	}},
	// resume B: the client comes to B
	"resume": {1, func(w *world, words []string) { w.clients["c"].resume(w.name(words[0])) }},
	// call A send [g], call A join g, call A leave g, call A close: a backend calls
	"call": {2, func(w *world, words []string) {
		verbs := map[string]verb{"send": send, "join": join, "leave": leave, "close": closes}
		w.issue(w.name(words[0]), 0, verbs[words[1]], strings.Join(words[2:], ""))
	}},
	// pass A B: all requests on the link from A to B arrive, and all responses on it
	// pass A B call 2: the first two requests of its lane arrive; control: those beside it.
	// back and result are the responses of both
	"pass": {2, (*world).pass},
	// settle: all messages arrive
	"settle": {0, func(w *world, _ []string) {
		for all := w.waiting(); len(all) > 0; all = w.waiting() {
			w.deliver(all[0])
		}
	}},
	"tick": {1, func(w *world, words []string) { // tick 500ms
		d, err := time.ParseDuration(words[0])
		if err != nil {
			w.fail("%v", err)
		}
		w.tick(w.now + d)
	}},
	// cut A B: the link from A to B ends, and both notice
	"cut": {2, func(w *world, words []string) {
		p := pair{hub.ID(words[0]), hub.ID(words[1])}
		w.cutDialled(p)
		w.endAccepted(p)
	}},
	// dial A B: A links to B again
	"dial": {2, func(w *world, words []string) {
		p := pair{hub.ID(words[0]), hub.ID(words[1])}
		w.dial(p)
		for len(w.links[p].responses[0]) > 0 {
			w.deliver(stream{p, false, 0})
		}
	}},
	"stop": {1, func(w *world, words []string) { w.stop(w.name(words[0])) }},
	// end A: A closes c, which is in doubt there
	"end": {1, func(w *world, words []string) {
		w.name(words[0]).conns["c"].ended = true
		w.clients["c"].isClosed = true
	}},
	// heal: all that can happen happens, and each move ends
	"heal": {0, func(w *world, _ []string) { w.heal() }},
	// outbox A: the messages of c at A
	"outbox": {1, func(w *world, words []string) {
		c := w.name(words[0]).conns["c"]
		if c == nil {
			w.trace("%s does not have c", words[0])
			return
		}
		w.trace("%v in groups %v", c.history, c.groups)
	}},
}

func (p *player) run(words []string) error {
	c, ok := commands[words[0]]
	if !ok || len(words)-1 < c.words {
		return fmt.Errorf("no such command, or too few words")
	}
	c.run(p.world, words[1:])
	p.world.endFenced()
	return nil
}

func (w *world) name(name string) *node { return w.node(hub.ID(name)) }

func (w *world) pass(words []string) {
	p := pair{hub.ID(words[0]), hub.ID(words[1])}
	if len(words) == 2 {
		w.deliverAll(p)
		return
	}
	s, ok := map[string]stream{
		"control": {p, true, 0}, "call": {p, true, 1}, "back": {p, false, 0},
		"result": {p, false, 1},
	}[words[2]]
	if !ok {
		w.fail("no stream %s", words[2])
	}
	most := 1 << 10
	if len(words) > 3 {
		if _, err := fmt.Sscan(words[3], &most); err != nil {
			w.fail("%v", err)
		}
	}
	for range most {
		if len(*w.links[p].queue(s.isRequest, s.number)) == 0 {
			return
		}
		w.deliver(s)
	}
}
