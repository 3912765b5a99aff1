package hub

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// TestAConnectionWhoseNewHubIsDeadEnds: once, with an event, and nothing of it is left. If it was
// closed since Seal, it ends so.
func TestAConnectionWhoseNewHubIsDeadEnds(t *testing.T) {
	for _, detached := range []string{"never", "before", "sealed"} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("detached %s, closed %t", detached, closed), func(t *testing.T) {
				loseSealed(t, detached, closed)
			})
		}
	}
}

func loseSealed(t *testing.T, detached string, closed bool) {
	var ends kinds
	from, to := newHub(t, observeCloses(&ends)), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	p := &passage{t, from, to, c.ID()}
	c.link.stall(true)
	d := send(t, from, toGroup("g", "hi"))
	if detached == "before" {
		c.lose()
	}
	p.adopt(p.freeze())
	from.Moves().Lose(c.ID()) // it is not sealed, so nothing is lost
	p.seal()
	want := cause.HubLost.CloseStatus()
	if closed {
		want = cause.Backend.CloseStatus()
		from.Moves().Close(c.ID(), want)
	}
	if detached == "sealed" {
		c.lose()
	}
	checkRest(t, from, to)
	if len(ends) != 0 {
		t.Error("a sealed connection ends before the outcome is known")
	}
	from.Moves().Lose(c.ID())
	how, ended := c.Ended()
	if diff := cmp.Diff(want, how); !ended || diff != "" || len(ends) != 1 {
		t.Errorf("ended %t, told %d times: %s", ended, len(ends), diff)
	}
	if told := slices.Contains(c.link.closed, want); told != (detached == "never") {
		t.Errorf("the link was closed as %v", c.link.closed)
	}
	if r := d.Receipt(); r.Queued+r.QueuedDetached+r.InTransfer != 0 {
		t.Errorf("receipt %+v", r)
	}
	if _, known := from.Moves().Tombstone(c.ID()); known {
		t.Error("a tombstone is left")
	}
	from.Moves().Lose(c.ID())
	checkRest(t, from)
	checkEmpty(t, from)
	must(t, "abandon", to.Moves().Abandon(c.ID()))
}

// TestALinkOfAnEarlierStayClosesNothing: the hub has the connection again, and it moves anew, when
// the link from before its first move ends.
func TestALinkOfAnEarlierStayClosesNothing(t *testing.T) {
	from, to := newHub(t), newHub(t)
	before := connectAs(t, from, numbered{}, "ann", "g")
	id, token := before.ID(), before.link.token(t)
	for _, p := range []*passage{{t, from, to, id}, {t, to, from, id}} {
		p.adopt(p.freeze())
		p.seal()
		p.commit()
	}
	p := &passage{t, from, to, id}
	p.adopt(p.freeze())
	p.seal()
	before.Close(cause.Moved.CloseStatus())
	p.commit()
	comeBack(t, to, id, token)
	checkRest(t, from, to)
}

// TestACloseOfTheOldHubReachesTheConnection where it is by then: here, on its way to the next hub,
// or there.
func TestACloseOfTheOldHubReachesTheConnection(t *testing.T) {
	kicked := cause.Backend.CloseStatus()
	for _, step := range []string{"live", "frozen", "sealed"} {
		from, to := newHub(t), newHub(t)
		c := connectAs(t, from, numbered{}, "ann", "g")
		p := &passage{t, from, to, c.ID()}
		to.Moves().Close(c.ID(), kicked) // it is not there
		if step != "live" {
			p.adopt(p.freeze())
			to.Moves().Close(c.ID(), kicked) // a shadow belongs to the old hub
		}
		if step == "sealed" {
			p.seal()
		}
		from.Moves().Close(c.ID(), kicked)
		if step == "sealed" {
			must(t, "commit", to.Moves().Commit(c.ID()))
			ended, err := from.Moves().Release(c.ID(), drained)
			must(t, "release", err)
			to.Moves().Close(c.ID(), *ended)
		} else if how, ended := c.Ended(); !ended || how != kicked {
			t.Errorf("%s: ended %t, %v", step, ended, how)
		}
		if step == "frozen" {
			must(t, "abandon", to.Moves().Abandon(c.ID()))
			must(t, "thaw", from.Moves().Thaw(c.ID()))
		}
		checkEmpty(t, from)
		checkEmpty(t, to)
	}
}

// TestAHubSaysWhereAConnectionStands to a hub to which its client has come.
func TestAHubSaysWhereAConnectionStands(t *testing.T) {
	from, to := newHub(t), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	plain := connect(t, from, "bob")
	proof := sha256.Sum256([]byte(c.link.token(t)))
	wantProven := false
	check := func(step string, h *Hub, id ConnectionID, wantHere bool, wantAt ID) {
		t.Helper()
		here, isProven, at := h.Moves().Standing(id, DefaultNamespace, proof)
		if here != wantHere || isProven != (wantHere || wantProven) || at != wantAt {
			t.Errorf("%s: here %t, proven %t, at %q; want %t, %t, %q", step, here, isProven, at,
				wantHere, wantProven, wantAt)
		}
	}
	check("live", from, c.ID(), true, "")
	check("plain", from, plain.ID(), false, "")
	check("unknown", to, c.ID(), false, "")
	good := proof
	for _, bad := range [][sha256.Size]byte{{}, sha256.Sum256([]byte("guess"))} {
		proof = bad
		check("a wrong token", from, c.ID(), false, "")
	}
	proof = good
	if here, is, at := from.Moves().Standing(c.ID(), "other", proof); here || is || at != "" {
		t.Errorf("in a different namespace: %t, %t, %q", here, is, at)
	}
	p := &passage{t, from, to, c.ID()}
	s := p.freeze()
	check("frozen", from, c.ID(), true, "")
	p.adopt(s)
	p.seal()
	for _, token := range [][sha256.Size]byte{sha256.Sum256([]byte("guess")), good} {
		proof, wantProven = token, token == good
		check("a shadow", to, c.ID(), false, "")
		check("sealed", from, c.ID(), false, to.ID())
	}
	wantProven = false
	p.commit()
	check("moved", from, c.ID(), false, to.ID())
	check("there", to, c.ID(), true, "")
	find(t, to, c.ID()).Close(cause.Backend.CloseStatus())
	check("closed", to, c.ID(), false, "")
}

// TestPagesShowWhatMoves: connections come and go between the tables and the seal while pages are
// read, and each is listed exactly once, in order. So is each group, with all its members.
func TestPagesShowWhatMoves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		from, to := newHub(t), newHub(t)
		members := map[string]int{}
		var ids []string
		sealed := map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(rt, "connections") {
			groups := rapid.SliceOfNDistinct(
				rapid.SampledFrom(names3), 0, 3, rapid.ID[string]).Draw(rt, "groups")
			for _, g := range groups {
				members[g]++
			}
			ids = append(ids, string(connectAs(t, from, numbered{}, "ann", groups...).ID()))
		}
		move := func() {
			id := rapid.SampledFrom(ids).Draw(rt, "moves")
			p := &passage{t, from, to, ConnectionID(id)}
			if sealed[id] {
				p.fail()
			} else {
				p.adopt(p.freeze())
				p.seal()
			}
			sealed[id] = !sealed[id]
		}
		target := rapid.SampledFrom([]*Target{
			{Everyone: true}, {Users: []string{"ann"}, Groups: names3},
		}).Draw(rt, "target")
		limit := rapid.IntRange(1, 4).Draw(rt, "limit")
		var listed, groups []string
		for at, more := (Cursor{}), true; more; more = at != (Cursor{}) {
			move()
			page, next, err := from.Connections(DefaultNamespace, target, at, limit)
			must(t, "connections", err)
			if at = next; len(page) > limit {
				rt.Fatalf("a page of %d connections, limit %d", len(page), limit)
			}
			for _, info := range page {
				listed = append(listed, string(info.ID))
			}
		}
		for at, more := (Cursor{}), true; more; more = at != (Cursor{}) {
			move()
			page, next, err := from.Groups(DefaultNamespace, at, limit)
			must(t, "groups", err)
			if at = next; len(page) > limit {
				rt.Fatalf("a page of %d groups, limit %d", len(page), limit)
			}
			for _, g := range page {
				groups = append(groups, g.Name)
				if g.Members != members[g.Name] {
					rt.Fatalf("%s has %d members, want %d", g.Name, g.Members, members[g.Name])
				}
			}
		}
		byCursor := func(a, b string) int { return CursorOf(a).Compare(CursorOf(b)) }
		slices.SortFunc(ids, byCursor)
		if diff := cmp.Diff(ids, listed); diff != "" {
			rt.Fatal(diff)
		}
		want := slices.SortedFunc(maps.Keys(members), byCursor)
		if !slices.Equal(want, groups) {
			rt.Fatalf("groups %q, want %q", groups, want)
		}
	})
}

// TestTheEndOfTheOldHubEndsNoConnectionThatHasMoved: a hub that stops closes all connections. Also
// those that it has sealed, but only if they come back. A client that leaves then ends its
// connection all the same.
func TestTheEndOfTheOldHubEndsNoConnectionThatHasMoved(t *testing.T) {
	for _, how := range []cause.Cause{cause.Shutdown, cause.Forgotten} {
		for _, then := range []string{"moved", "left", "thawed"} {
			from, to := newHub(t), newHub(t)
			c := connectAs(t, from, numbered{}, "ann", "g")
			p := &passage{t, from, to, c.ID()}
			p.adopt(p.freeze())
			p.seal()
			c.Close(how.CloseStatus())
			if then == "thawed" {
				p.fail()
				if got, ended := c.Ended(); !ended || got.Cause != how {
					t.Errorf("%v, back at the old hub: ended %t, %v", how, ended, got)
				}
				continue
			}
			if then == "left" {
				c.Close(cause.Client.CloseStatus())
			}
			must(t, "commit", to.Moves().Commit(c.ID()))
			ended, err := from.Moves().Release(c.ID(), drained)
			must(t, "release", err)
			if left := ended != nil && ended.Cause == cause.Client; left != (then == "left") {
				t.Errorf("%v, %s: release says %v", how, then, ended)
			}
		}
	}
}
