package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// TestScripts plays the scenarios in testdata (testkit.PlayScripts). In every scenario the sim also
// checks the promises of the package: see sim.send, node.returned, node.receive and sim.check.
func TestScripts(t *testing.T) {
	testkit.PlayScripts(t, func(t *testing.T) func([]string) (string, error) {
		p := &player{sim: newSim(HashBits)}
		p.sim.trace = p.note
		p.sim.fail = func(format string, args ...any) {
			p.note("BROKEN: "+format, args...)
			t.Errorf(format, args...)
		}
		return func(words []string) (effects string, err error) {
			p.out.Reset()
			if err := p.run(words); err != nil {
				return "", err
			}
			p.sim.check()
			return p.out.String(), nil
		}
	})
}

// player runs the commands of a scenario.
type player struct {
	sim *sim
	out strings.Builder
}

func (p *player) note(format string, args ...any) {
	fmt.Fprintf(&p.out, "%7.3f  %s\n", p.sim.now.Seconds(), fmt.Sprintf(format, args...))
}

// The commands, with the least number of words behind each.
var commands = map[string]struct {
	words int
	run   func(p *player, w []string)
}{
	"hub":     {1, (*player).hub},     // hub A [address]: starts
	"hash":    {1, (*player).hash},    // hash 8: cuts hashes to 8 bits
	"advance": {1, (*player).advance}, // advance 100ms
	"join":    {2, (*player).join},    // join A g:lobby, or several: join A u:ann,g:lobby
	"leave":   {2, (*player).leave},   // leave A g:lobby
	// send A g:lobby [B]: B is where a connection of the target was born
	"send":    {2, (*player).send},
	"peers":   {1, (*player).peers},   // peers A: how A sees its peers
	"pause":   {1, (*player).pause},   // pause A: SIGSTOP
	"suspend": {1, (*player).suspend}, // suspend A: its machine stops, and its clock with it
	"resume":  {1, (*player).resume},
	"kill":    {1, (*player).kill},   // kill A: SIGKILL; its sockets close, its key stays
	"unlist":  {1, (*player).unlist}, // unlist A: its key in etcd is gone
	// lapse: etcd ends the leases of all keys, and no hub knows it yet
	"lapse": {0, (*player).lapse},
	// renew: each live hub that hears etcd finds out, and registers again
	"renew":  {0, (*player).renew},
	"strike": {1, (*player).strike}, // strike A: its key and its mark are gone
	"etcd":   {1, (*player).etcd},   // etcd down|up
	"deaf":   {1, (*player).deaf},   // deaf A: it is cut off from etcd, and its key goes
	"hear":   {1, (*player).hear},   // hear A: it hears etcd again, and registers
	"break":  {2, (*player).sever},  // break A B: their links end, both notice
	"reset":  {2, (*player).reset},  // reset A B: A notices that their links end, B does not
	"hole":   {2, (*player).hole},   // hole A B: nothing passes from A to B, no hub notices
	"heal":   {2, (*player).heal},   // heal A B: everything passes again
	"cut":    {2, (*player).cut},    // cut A B: break, and a hole each way
	// hold A B interest|answer|probe|confirmation|hello|data|end: such packets wait
	"hold": {3, (*player).hold},
	// release A B interest [n]: all of them, or the first n, go now
	"release": {3, (*player).release},
	// pass A B interest: such packets wait no longer; those that wait go on waiting
	"pass":  {3, (*player).pass},
	"fill":  {2, (*player).fill}, // fill A 20000: as many groups, g:0 and up
	"drain": {1, (*player).drain},
	"bye":   {1, (*player).bye}, // bye A: its farewell
}

func (p *player) run(w []string) error {
	c, ok := commands[w[0]]
	if !ok || len(w)-1 < c.words {
		return fmt.Errorf("no such command, or too few words")
	}
	c.run(p, w[1:])
	return nil
}

func (p *player) node(name string) *node { return p.sim.node(hub.ID(name)) }

func (p *player) hub(w []string) {
	address := strings.ToLower(w[0]) + ":1"
	if len(w) > 1 {
		address = w[1]
	}
	p.sim.start(hub.ID(w[0]), address)
}

func (p *player) hash(w []string) {
	if _, err := fmt.Sscan(w[0], &p.sim.bits); err != nil {
		p.sim.fail("%v", err)
	}
}

func (p *player) advance(w []string) {
	d, err := time.ParseDuration(w[0])
	if err != nil {
		p.sim.fail("%v", err)
	}
	p.sim.advance(d)
}

func (p *player) join(w []string)  { p.node(w[0]).join(w[1]) }
func (p *player) leave(w []string) { p.node(w[0]).leave(w[1]) }

func (p *player) send(w []string) {
	var born []hub.ID
	if len(w) > 2 {
		born = append(born, hub.ID(w[2]))
	}
	r := p.node(w[0]).send(w[1], born...)
	for _, d := range r.To {
		line := fmt.Sprintf("to %s/%d", d.Hub, d.Epoch)
		if d.Flood {
			line += " flood"
		}
		if d.Suspect {
			line += " suspect"
		}
		p.note("%s", line)
	}
	for _, id := range r.Unreachable {
		p.note("unreachable %s", id)
	}
	if len(r.To)+len(r.Unreachable) == 0 {
		p.note("to nobody")
	}
}

func (p *player) peers(w []string) {
	for _, i := range p.node(w[0]).core.PeerInfos(p.node(w[0]).clock()) {
		line := fmt.Sprintf("%s %s %s interest %d", i.Hub, i.State, i.Address, i.Interest)
		for _, x := range []struct {
			is   bool
			word string
		}{{i.Listed, "key"}, {i.Lease, "lease"}, {i.Draining, "draining"}} {
			if x.is {
				line += " " + x.word
			}
		}
		p.note("%s", line)
	}
}

func (p *player) pause(w []string) { p.node(w[0]).pause() }

func (p *player) suspend(w []string) { p.node(w[0]).suspend() }

func (p *player) resume(w []string) { p.node(w[0]).resume() }

func (p *player) kill(w []string) { p.node(w[0]).kill() }

func (p *player) unlist(w []string) {
	delete(p.sim.keys, hub.ID(w[0]))
	p.sim.list()
}

func (p *player) lapse([]string) {
	clear(p.sim.keys)
	p.sim.list()
}

func (p *player) renew([]string) { p.sim.register() }

func (p *player) strike(w []string) {
	delete(p.sim.marks, hub.ID(w[0]))
	p.unlist(w)
}

func (p *player) etcd(w []string) {
	p.sim.deaf = w[0] == "down"
	if !p.sim.deaf {
		p.sim.register()
	}
}

func (p *player) deaf(w []string) {
	p.node(w[0]).deaf = true
	p.unlist(w)
}

func (p *player) hear(w []string) {
	p.node(w[0]).deaf = false
	p.sim.register()
}

func (p *player) sever(w []string) { p.sim.sever(p.node(w[0]), p.node(w[1])) }
func (p *player) reset(w []string) { p.sim.reset(p.node(w[0]), p.node(w[1])) }

func (p *player) hole(w []string) { p.sim.holes[[2]*node{p.node(w[0]), p.node(w[1])}] = true }

func (p *player) cut(w []string) {
	p.sever(w)
	p.hole(w)
	p.hole([]string{w[1], w[0]})
}

func (p *player) heal(w []string) {
	a, b := p.node(w[0]), p.node(w[1])
	delete(p.sim.holes, [2]*node{a, b})
	delete(p.sim.holes, [2]*node{b, a})
}

func (p *player) hold(w []string) { p.sim.holds[hold{hub.ID(w[0]), hub.ID(w[1]), w[2]}] = true }

func (p *player) release(w []string) {
	first := 0
	if len(w) > 3 {
		if _, err := fmt.Sscan(w[3], &first); err != nil {
			p.sim.fail("%v", err)
		}
	}
	p.sim.release(hold{hub.ID(w[0]), hub.ID(w[1]), w[2]}, first)
}

func (p *player) pass(w []string) { delete(p.sim.holds, hold{hub.ID(w[0]), hub.ID(w[1]), w[2]}) }

// fill joins many groups without a line for each.
func (p *player) fill(w []string) {
	var many int
	if _, err := fmt.Sscan(w[1], &many); err != nil {
		p.sim.fail("%v", err)
	}
	trace, n := p.sim.trace, p.node(w[0])
	p.sim.trace = func(string, ...any) {}
	for i := range many {
		n.join(fmt.Sprintf("g:%d", i))
	}
	p.sim.trace, n.quiet = trace, n.last
}

func (p *player) drain(w []string) { p.away(w[0], false) }
func (p *player) bye(w []string)   { p.away(w[0], true) }

func (p *player) away(name string, farewell bool) {
	n := p.node(name)
	n.apply(n.core.GoAway(n.clock(), farewell))
}
