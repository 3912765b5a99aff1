package hub

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// arrival is an item of the dumb model: in a slice, in order.
type arrival struct {
	namespace, user string
	item            int
	where           *userArrivals[int]
}

// firstOf is what the model takes for the next to go: the oldest of a user who has most, in a namespace that has most.
func firstOf(all []arrival) []int {
	namespaces, users := map[string]int{}, map[[2]string]int{}
	mostOf, most := map[string]int{}, 0
	for _, a := range all {
		namespaces[a.namespace]++
		most = max(most, namespaces[a.namespace])
		users[[2]string{a.namespace, a.user}]++
		mostOf[a.namespace] = max(mostOf[a.namespace], users[[2]string{a.namespace, a.user}])
	}
	var oldest []int // of each user that may be it
	seen := map[[2]string]bool{}
	for _, a := range all {
		user := [2]string{a.namespace, a.user}
		if namespaces[a.namespace] == most && users[user] == mostOf[a.namespace] && !seen[user] {
			seen[user] = true
			oldest = append(oldest, a.item)
		}
	}
	return oldest
}

func TestArrivalsGoFromTheLargestUserOfTheLargestNamespace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a arrivals[int]
		var all []arrival
		for i := range rapid.IntRange(0, 100).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 3).Draw(t, "step"); {
			case step == 0 && len(all) > 0:
				at := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				a.remove(all[at].where, all[at].item)
				all = slices.Delete(all, at, at+1)
			case step == 1 && len(all) > 0:
				where, item := a.first()
				if want := firstOf(all); !slices.Contains(want, item) {
					t.Fatalf("%d goes, want one of %v", item, want)
				}
				a.remove(where, item)
				all = slices.DeleteFunc(all, func(o arrival) bool { return o.item == item })
			default:
				one := arrival{
					namespace: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"),
					user:      rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(t, "user"),
					item:      i,
				}
				one.where = a.add(one.namespace, one.user, one.item)
				all = append(all, one)
			}
			if a.len != len(all) {
				t.Fatalf("%d are in it, want %d", a.len, len(all))
			}
		}
		for _, one := range all {
			a.remove(one.where, one.item)
		}
		if a.len+len(a.byName)+len(a.ranks) != 0 {
			t.Fatalf("%d items, %d namespaces are left of nothing", a.len, len(a.byName))
		}
	})
}

// A caller that makes more request ids than the hub remembers has its own forgotten, and nobody else's.
func TestACallerThatFloodsRequestIDsForgetsItsOwn(t *testing.T) {
	const most = 100
	r := newRequests(most)
	begin := func(namespace, caller, id string) bool { return beginRequest(t, r, namespace, caller, id) }
	begin("default", "quiet", "1")
	begin("other", "flood", "1") // of the same name, but in a namespace that has little
	for i := range 20 * most {
		begin("default", "flood", fmt.Sprint(i))
		if len(r.byKey) > most || len(r.oldest) > 2*most+1 || r.callers.len != len(r.byKey) {
			t.Fatalf("%d remembered, in a list of %d", len(r.byKey), len(r.oldest))
		}
	}
	if !begin("default", "quiet", "1") || !begin("other", "flood", "1") {
		t.Error("a request id was forgotten for another caller's")
	}
	if begin("default", "flood", "0") || !begin("default", "flood", fmt.Sprint(20*most-1)) {
		t.Error("the caller that floods has its oldest forgotten, and not its newest")
	}
}

// A caller chooses the namespaces that it sends to. One that sends a single request id into each of many
// is still the largest caller.
func TestACallerThatFloodsNamespacesForgetsItsOwnRequestIDs(t *testing.T) {
	const most = 100
	r := newRequests(most)
	for i := range 3 {
		if beginRequest(t, r, "tenant", "quiet", fmt.Sprint(i)) {
			t.Fatal("a request id is known that is new")
		}
	}
	for i := range 3 * most {
		beginRequest(t, r, fmt.Sprint("flood-", i), "flood", "1")
	}
	for i := range 3 {
		if !beginRequest(t, r, "tenant", "quiet", fmt.Sprint(i)) {
			t.Errorf("request id %d was forgotten for another caller's", i)
		}
	}
}

// beginRequest reports whether the request id was known.
func beginRequest(t *testing.T, r *requests, namespace, caller, id string) bool {
	t.Helper()
	m := text("")
	m.Namespace = namespace
	known, err := r.begin(&Send{Message: m, Caller: caller, RequestID: id}, &tally{})
	if err != nil {
		t.Fatal(err)
	}
	return known != nil
}

// Behind one address, a user or a namespace with many connections that wait for their clients goes before those with one.
func TestAnAddressFullOfOneUsersDetachedCostsNobodyElse(t *testing.T) {
	h := newHub(t, func(c *Config) { c.DetachedPerUser, c.DetachedPerAddress = 50, 20 })
	quiet := connectAs(t, h, numbered{}, "quiet")
	quiet.lose()
	nobody := connectAs(t, h, numbered{}, "")
	nobody.lose()
	var evil []*Connection
	for i := range 60 {
		c, err := h.Attach(t.Context(), Admission{
			Namespace: "evil", User: []string{"", "ann", "bob"}[i%3], Protocol: numbered{}, RemoteAddress: "127.0.0.1:1",
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &memory{connection: c}
		if err := c.Bind(l); err != nil {
			t.Fatal(err)
		}
		c.Unbind(l, cause.Lost.CloseStatus())
		evil = append(evil, c)
	}
	if n := closedOf([]*client{quiet, nobody}); n != 0 {
		t.Errorf("%d of those were closed who came first, and alone", n)
	}
	closed := 0
	for _, c := range evil {
		if _, ended := c.Ended(); ended {
			closed++
		}
	}
	if closed != 42 || h.detached.len() != 20 {
		t.Errorf("%d were closed, %d are left", closed, h.detached.len())
	}
	for _, c := range evil {
		c.Close(cause.Client.CloseStatus())
	}
}

// Detached clients without a user are one user at their address, so those with a user stay.
func TestDetachedClientsWithoutAUserGoBeforeAUserThatHasFewer(t *testing.T) {
	h := newHub(t, func(c *Config) { c.DetachedPerAddress = 20 })
	var named, unnamed []*client
	for range 3 {
		named = append(named, connectAs(t, h, numbered{}, "ann"))
		named[len(named)-1].lose()
	}
	for range 40 {
		unnamed = append(unnamed, connectAs(t, h, numbered{}, ""))
		unnamed[len(unnamed)-1].lose()
	}
	if closedOf(named) != 0 || closedOf(unnamed) != 23 {
		t.Errorf("closed %d of a user's, %d of those without one", closedOf(named), closedOf(unnamed))
	}
}
