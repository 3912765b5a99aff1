package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// TestScripts plays the scenarios in testdata (testkit.PlayScripts):
//
//	emit a hello
//	----
//	s gets a/2
//	s wakes
//
// Beside that, the sim checks the promises of the package in each scenario.
func TestScripts(t *testing.T) {
	testkit.PlayScripts(t, func(t *testing.T) func([]string) (string, error) {
		p := &player{sim: newSim()}
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

func (p *player) note(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

// commands, with the least number of words behind each. Words in brackets may be missing.
var commands = map[string]struct {
	words int
	run   func(p *player, w []string) error
}{
	// limits messages=8 bytes=4000 standing=3 subscribers=2, some of them
	"limits": {1, (*player).limits},
	// subscribe s [namespaces=x,y] [kinds=message,connected] [names=a,b] [account=100000]
	"subscribe": {1, (*player).subscribe},
	// connect a [namespace=x] [user=ann] [address=10.0.0.1:1]
	"connect": {1, (*player).connect},
	// emit a hello [100]: a message with a payload of so many bytes
	"emit": {2, (*player).emit},
	// flood a hello 50 [100]: as many messages, told in short
	"flood":      {3, (*player).flood},
	"disconnect": {1, (*player).disconnect},
	// take s [2] [1000]: at most so many events, and none more when they have so many bytes
	"take": {1, (*player).take},
	// release s: the batch that was taken first
	"release": {1, (*player).release},
	// room s: the room that the subscription holds
	"room":    {1, (*player).room},
	"go-away": {0, func(p *player, _ []string) error { p.sim.goAway(); return nil }},
	// finish: the hub shuts down
	"finish": {0, func(p *player, _ []string) error { p.sim.finish(); return nil }},
	// end s broken pipe: the way out has an error
	"end": {2, (*player).end},
	// unsubscribe s
	"unsubscribe": {1, (*player).unsubscribe},
}

func (p *player) run(w []string) error {
	c, ok := commands[w[0]]
	if !ok || len(w)-1 < c.words {
		return errors.New("no such command, or too few words")
	}
	return c.run(p, w[1:])
}

// options calls set with each key=value.
func options(words []string, set map[string]func(value string) error) error {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		if set[key] == nil {
			return fmt.Errorf("no option %q", key)
		}
		if err := set[key](value); err != nil {
			return err
		}
	}
	return nil
}

func setInt[N int | int64](to *N) func(string) error {
	return func(value string) error {
		_, err := fmt.Sscan(value, to)
		return err
	}
}

func setText(to *string) func(string) error {
	return func(value string) error {
		*to = value
		return nil
	}
}

func setList(to *[]string) func(string) error {
	return func(value string) error {
		*to = strings.Split(value, ",")
		return nil
	}
}

func (p *player) limits(w []string) error {
	return options(w, map[string]func(string) error{
		"messages": setInt(&p.sim.limits.Messages), "bytes": setInt(&p.sim.limits.Bytes),
		"standing": setInt(&p.sim.limits.Standing), "subscribers": setInt(&p.sim.roster.limit),
	})
}

func (p *player) subscribe(w []string) error {
	f := Filter{Namespaces: []string{"x"}}
	var kinds []string
	account := int64(-1)
	err := options(w[1:], map[string]func(string) error{
		"namespaces": setList(&f.Namespaces), "kinds": setList(&kinds),
		"names": setList(&f.MessageNames), "account": setInt(&account),
	})
	if err != nil {
		return err
	}
	for _, name := range kinds {
		for _, op := range Ops() {
			if kindOf(op).String() == name {
				f.Kinds = append(f.Kinds, kindOf(op))
			}
		}
	}
	var a *countedAccount
	if account >= 0 {
		a = &countedAccount{most: account}
	}
	if err := p.sim.subscribe(w[0], f, a); err != nil {
		p.note("refused: %v", err)
	}
	return nil
}

func (p *player) connect(w []string) error {
	id := hub.Identity{ID: hub.ConnectionID(w[0]), Namespace: "x", User: w[0]}
	err := options(w[1:], map[string]func(string) error{
		"namespace": setText(&id.Namespace), "user": setText(&id.User),
		"address": setText(&id.RemoteAddress),
	})
	if err == nil {
		p.sim.connect(id)
	}
	return err
}

// number returns the word of that index, or otherwise.
func number(w []string, index, otherwise int) (int, error) {
	if index >= len(w) {
		return otherwise, nil
	}
	return strconv.Atoi(w[index])
}

func (p *player) emit(w []string) error {
	bytes, err := number(w, 2, 0)
	if err != nil {
		return err
	}
	if p.sim.publish(p.sim.connection(w[0]), KindMessage, newMessage(w[1], bytes)) == 0 {
		p.note("not queued")
	}
	return nil
}

func (p *player) flood(w []string) error {
	times, err := number(w, 2, 0)
	if err != nil {
		return err
	}
	bytes, err := number(w, 3, 0)
	if err != nil {
		return err
	}
	queued := 0
	trace := p.sim.trace
	p.sim.trace = func(string, ...any) {}
	for range times {
		queued += p.sim.publish(p.sim.connection(w[0]), KindMessage, newMessage(w[1], bytes))
	}
	p.sim.trace = trace
	p.note("queued %d times", queued)
	return nil
}

func (p *player) disconnect(w []string) error {
	p.sim.publish(p.sim.connection(w[0]), KindDisconnected, nil)
	return nil
}

// way returns the way out of that name.
func (p *player) way(name string) (*way, error) {
	for _, w := range p.sim.ways {
		if w.name == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no way out %q", name)
}

func (p *player) take(w []string) error {
	of, err := p.way(w[0])
	if err != nil {
		return err
	}
	most, err := number(w, 1, 1000)
	if err != nil {
		return err
	}
	bytes, err := number(w, 2, 1<<20)
	if err != nil {
		return err
	}
	p.sim.take(of, most, int64(bytes))
	return nil
}

func (p *player) release(w []string) error {
	of, err := p.way(w[0])
	if err != nil {
		return err
	}
	if len(of.flying) == 0 {
		return errors.New("nothing is in flight")
	}
	p.sim.release(of)
	return nil
}

func (p *player) room(w []string) error {
	of, err := p.way(w[0])
	if err != nil {
		return err
	}
	p.note("%d bytes, %d of the account", of.core.room.held, of.core.room.reserved)
	return nil
}

func (p *player) end(w []string) error {
	of, err := p.way(w[0])
	if err == nil {
		p.sim.end(of, errors.New(strings.Join(w[1:], " ")))
	}
	return err
}

func (p *player) unsubscribe(w []string) error {
	of, err := p.way(w[0])
	if err == nil {
		p.sim.remove(of)
	}
	return err
}
