package port

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/testkit"
)

var (
	backendIdentity = auth.Identity{Role: auth.RoleBackend, Name: "backend:1"}
	peerIdentity    = auth.Identity{Role: auth.RolePeer, Name: "peer:1"}
)

// visitor is a connection of a test's port.
type visitor struct {
	raw *addressedConn
	in  *inbound
}

// connect has the port accept a connection.
func connect(p *gate, from string) visitor {
	raw := &addressedConn{from: from}
	in := p.addAccepted(raw)
	p.endHandshake(in, raw)
	return visitor{raw, in}
}

// enter has a connection show a credential; false: it was refused.
func enter(p *gate, who auth.Identity) (visitor, bool) {
	g := connect(p, "192.0.2.1")
	return g, g.in.becomeKnown(who)
}

// Strangers have half of the port. When all of it is in use, they are closed first.
func TestAPortThatIsFullClosesStrangersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, known = 16, 14
		p := newGate(slogTo(&testkit.LockedBuffer{}), most)
		var strangers []visitor
		for i := range most/2 + 1 {
			if i == most/2 {
				time.Sleep(StrangerPatience)
			}
			strangers = append(strangers, connect(p, "192.0.2.1"))
		}
		if !strangers[0].raw.closed || strangers[1].raw.closed {
			t.Errorf("of %d strangers the oldest is closed: %v, and the next: %v",
				len(strangers), strangers[0].raw.closed, strangers[1].raw.closed)
		}
		time.Sleep(StrangerPatience)
		var backends []visitor
		for range known {
			g, ok := enter(p, backendIdentity)
			if !ok {
				t.Fatal("a backend was refused while there is room")
			}
			backends = append(backends, g)
		}
		for range most {
			connect(p, "192.0.2.1")
		}
		for i, b := range backends {
			if b.raw.closed {
				t.Errorf("backend %d is closed", i)
			}
		}
		if p.open != most || p.strangerCount() != most-known {
			t.Errorf("%d connections, %d of strangers, want %d and %d",
				p.open, p.strangerCount(), most, most-known)
		}
		_ = backends[0].in.Close()
		if next := connect(p, "192.0.2.1"); next.raw.closed {
			t.Error("a connection that has ended leaves no room")
		} else if !next.in.becomeKnown(backendIdentity) {
			t.Error("a connection that has ended leaves no room for a backend")
		}
		for _, b := range backends[1:] {
			_ = b.in.Close()
			_ = b.in.Close()
		}
		if n := p.open - p.strangerCount(); n != 1 || p.knownCount(auth.RoleBackend) != 1 {
			t.Errorf("%d connections are counted, %d of backends, want 1",
				n, p.knownCount(auth.RoleBackend))
		}
		time.Sleep(StrangerPatience)
		closeAll(p)
	})
}

// closeAll ends the timers of a port's strangers.
func closeAll(p *gate) {
	for p.strangers.all.Len() > 0 {
		_ = p.strangers.all.Front().Value.(*inbound).Close()
	}
}

// A credential that fills the port keeps out neither backends nor peers. It pays with
// its idle connections, then with its newest.
func TestTheCredentialThatHoldsMostPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, known = 16, 14
		log := &testkit.LockedBuffer{}
		p := newGate(slogTo(log), most)
		greedy := auth.Identity{Role: auth.RoleBackend, Name: "backend:greedy"}
		var held []visitor
		for range known {
			g, ok := enter(p, greedy)
			if !ok {
				t.Fatal("a credential alone may fill the port")
			}
			g.in.countCall(time.Now())
			held = append(held, g)
		}
		if g, ok := enter(p, greedy); ok || g.raw.closed {
			t.Errorf(
				"one more of the credential that has all: taken %v, closed %v", ok, g.raw.closed,
			)
		}
		held[3].in.uncountCall(time.Now())
		held[2].in.uncountCall(time.Now())
		held[1].in.uncountCall(time.Now())
		held[1].in.countCall(time.Now())
		time.Sleep(idlePatience)
		held[2].in.countCall(time.Now())
		held[2].in.uncountCall(time.Now())
		time.Sleep(idlePatience)

		closed := func(want ...int) {
			t.Helper()
			var have []int
			for i, g := range held {
				if g.raw.closed {
					have = append(have, i)
				}
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Fatalf("closed %v, want %v", have, want)
			}
		}
		for i, want := range [][]int{{3}, {2, 3}, {2, 3, 13}, {2, 3, 12, 13}} {
			who := peerIdentity
			if i%2 == 0 {
				who = backendIdentity
			}
			g, ok := enter(p, who)
			if !ok || g.raw.closed {
				t.Fatalf("%s is kept out", who.Name)
			}
			closed(want...)
		}
		if n := strings.Count(log.String(), "a credential holds most"); n != 1 {
			t.Errorf("%d lines in a second, want 1", n)
		}
		time.Sleep(portLogInterval)
		enter(p, peerIdentity)
		if s := log.String(); !strings.Contains(
			s, `"credential":"backend:greedy","connections":9,"of":14,"closed":5,"refused":0`,
		) {
			t.Errorf("logged %s", s)
		}
		closeAll(p)
	})
}

// In any order of connections that come and go: a hub is never kept out or closed. A backend's
// newcomer is kept out only if no credential has more connections than its own would have with it.
// A connection is closed only if no credential has more of them than its own.
func TestNoCredentialIsKeptOutByOneWithMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(MinConnections, 40).Draw(t, "most")
		p := newGate(slog.New(slog.DiscardHandler), most)
		names := rapid.IntRange(1, 12).Draw(t, "credentials")
		model := make(map[auth.Identity][]visitor)
		count := func() (all int) {
			for _, gs := range model {
				all += len(gs)
			}
			return all
		}
		mostOfBackends := func() (n int) {
			for who, gs := range model {
				if who.Role == auth.RoleBackend {
					n = max(n, len(gs))
				}
			}
			return n
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			who := auth.Identity{Role: auth.RoleBackend, Name: fmt.Sprint(
				"backend:", rapid.IntRange(1, names).Draw(t, "name"),
			)}
			if rapid.IntRange(0, 9).Draw(t, "role") == 0 &&
				len(model[peerIdentity]) < p.holders.most {
				who = peerIdentity
			}
			if mine := model[who]; len(mine) > 0 && rapid.IntRange(0, 3).Draw(t, "leaves") == 0 {
				i := rapid.IntRange(0, len(mine)-1).Draw(t, "which")
				_ = mine[i].in.Close()
				model[who] = append(mine[:i:i], mine[i+1:]...)
				continue
			}
			before, largest, full := len(model[who]), mostOfBackends(), count() == p.holders.most
			g, ok := enter(p, who)
			if g.raw.closed {
				t.Fatalf("a newcomer of %s was closed", who.Name)
			}
			if rapid.Bool().Draw(t, "calls") && ok {
				g.in.countCall(time.Now())
			}
			g.in.lastCall.Add(-int64(rapid.IntRange(0, 3).Draw(t, "age")) * int64(idlePatience))
			if ok {
				model[who] = append(model[who], g)
			} else {
				if !full || who.Role == auth.RolePeer || before+1 < largest {
					t.Fatalf("%s with %d connections was refused; the largest has %d, full: %v",
						who.Name, before, largest, full)
				}
				_ = g.in.Close()
			}
			paid := 0
			for of, gs := range model {
				for i, g := range gs {
					if !g.raw.closed {
						continue
					}
					paid++
					if of.Role == auth.RolePeer || len(gs) < largest || !full {
						t.Fatalf("%s paid with %d connections of %d", of.Name, len(gs), largest)
					}
					model[of] = append(gs[:i:i], gs[i+1:]...)
					break
				}
			}
			if want := full && ok; (paid == 1) != want || paid > 1 {
				t.Fatalf("%d connections were closed; full: %v, taken: %v", paid, full, ok)
			}
			have := p.knownCount(auth.RoleBackend) + p.knownCount(auth.RolePeer)
			if have != count() || have > p.holders.most || p.open != have {
				t.Fatalf("%d known of %d, %d open, want %d", have, p.holders.most, p.open, count())
			}
		}
		closeAll(p)
	})
}
