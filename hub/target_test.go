package hub

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// TestTheConnectionsOfATargetAreThoseThatMatchItOneByOne: each that a target matches is matched by
// the target with Only, with the same route, and no more are. Moves.Matches says the same of it at
// every step of a move, at the old hub until it lets go and at the new hub from the shadow on.
func TestTheConnectionsOfATargetAreThoseThatMatchItOneByOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, to := newHub(t), newHub(t)
		ids := []string{"x"}
		for range 4 {
			user := rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(rt, "user")
			groups := rapid.SliceOfN(rapid.SampledFrom(names3), 0, 3).Draw(rt, "groups")
			ids = append(ids, string(connectAs(t, h, numbered{}, user, groups...).ID()))
		}
		target := drawTarget(rt, ids)
		ns := h.findNamespace(DefaultNamespace)
		var all matcher
		un := all.findMatches(ns, &target, true)
		routes, named := map[ConnectionID]Route{}, map[string]bool{}
		for _, m := range all.matches {
			routes[m.connection.ID()] = m.routeOf(&target)
		}
		for _, id := range ids {
			only := target
			only.Only = ConnectionID(id)
			var f matcher
			unnamed := f.findMatches(ns, &only, true)
			got := map[ConnectionID]Route{}
			for _, m := range f.matches {
				got[m.connection.ID()] = m.routeOf(&only)
			}
			want := map[ConnectionID]Route{}
			if r, ok := routes[only.Only]; ok {
				want[only.Only] = r
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("only %s of %+v: %s", id, target, diff)
			}
			if n := h.Count(DefaultNamespace, &only); n != len(want) {
				rt.Fatalf("%d connections, want %d", n, len(want))
			}
			page, _, err := h.Connections(DefaultNamespace, &only, Cursor{}, 9)
			if err != nil || len(page) != len(want) {
				rt.Fatalf("a page of %d connections, %v, want %d", len(page), err, len(want))
			}
			for _, name := range allNames(&target) {
				named[name] = named[name] || !slices.Contains(namesOf(unnamed), name)
			}
			checkMatches(t, h, to, &only, len(want) == 1)
		}
		for _, name := range allNames(&target) {
			if named[name] == slices.Contains(namesOf(un), name) {
				rt.Fatalf("%s is named by one of the connections: %t", name, named[name])
			}
		}
	})
}

var names3 = []string{"a", "b", "c"}

func drawTarget(rt *rapid.T, ids []string) Target {
	list := func(of []string, label string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 2, rapid.ID[string]).Draw(rt, label)
	}
	users := []string{"ann", "bob", "eve"}
	return Target{
		Connections: list(ids, "connections"), Users: list(users, "users"),
		Groups: list(names3, "groups"), Everyone: rapid.Bool().Draw(rt, "everyone"),
		Except: Exclusion{
			Connections: list(ids, "except"), Users: list(users, "except users"),
			Groups: list(names3, "except groups"),
		},
	}
}

// allNames returns the names of a target, each with its kind.
func allNames(t *Target) []string {
	return namesOf(&Unmatched{t.Connections, t.Users, t.Groups})
}

func namesOf(un *Unmatched) (all []string) {
	for kind, names := range map[string][]string{
		"connection": un.Connections, "user": un.Users, "group": un.Groups,
	} {
		for _, name := range names {
			all = append(all, fmt.Sprint(kind, " ", name))
		}
	}
	return all
}

// checkMatches moves the connection of a target and takes it back at the last step.
func checkMatches(t *testing.T, from, to *Hub, target *Target, want bool) {
	t.Helper()
	id := target.Only
	check := func(step string, hubs ...*Hub) {
		t.Helper()
		for _, h := range hubs {
			if h.Moves().Matches(DefaultNamespace, target, id) != want {
				t.Fatalf("%s: %s matches %+v: %t", step, id, target, !want)
			}
			if h.Moves().Matches("other", target, id) {
				t.Fatalf("%s: %s matches in a different namespace", step, id)
			}
		}
	}
	check("live", from)
	if id == "x" { // there is no such connection
		return
	}
	p := &passage{t, from, to, id}
	s := p.freeze()
	check("frozen", from)
	p.adopt(s)
	check("adopted", from, to)
	p.seal()
	check("sealed", from, to)
	p.fail()
	check("failed", from)
	if to.Moves().Matches(DefaultNamespace, target, id) {
		t.Fatalf("%s matches at a hub that has abandoned it", id)
	}
}

// TestASendToOneConnectionAlone reaches no other, whatever its target names.
func TestASendToOneConnectionAlone(t *testing.T) {
	h := newHub(t)
	ann, bob := connect(t, h, "ann", "g"), connect(t, h, "bob", "g")
	s := toGroup("g", "hi")
	s.Target.Only = bob.ID()
	if r := send(t, h, s).Receipt(); r.Matched != 1 || r.Written != 1 {
		t.Errorf("receipt %+v", r)
	}
	if n := len(ann.link.frames()); n != 0 {
		t.Errorf("a connection besides got %d messages", n)
	}
	if diff := cmp.Diff([]string{"gg:hi"}, bob.link.frames()); diff != "" {
		t.Error(diff)
	}
	bob.Close(cause.Client.CloseStatus())
	s = toGroup("g", "late")
	s.Target.Only = bob.ID()
	if r := send(t, h, s).Receipt(); r.Matched != 0 {
		t.Errorf("a closed connection matches: %+v", r)
	}
}
