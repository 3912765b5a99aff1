package hub

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// tallying is a link that keeps only how often it got each message: 20,000 of them must fit.
type tallying struct {
	connection *Connection
	mu         sync.Mutex
	batch      Batch
	got        []uint8 // by message number, its first byte on the wire
}

func (*tallying) Prefetch(int) {}
func (*tallying) Stirs() bool  { return false }

func (l *tallying) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.connection.Take(l, &l.batch, memoryMax) {
		for b := l.batch.Bytes; len(b) > 0; b = b[5:] { // one-byte payloads
			l.got[b[4]]++
		}
		l.connection.Written(l, l.batch.Units(len(l.batch.Bytes)))
		if l.batch.Last {
			return
		}
	}
}

func (l *tallying) Close(how cause.CloseStatus) { l.connection.Unbind(l, how) }

// TestMembersThatStayGetEachMessageOnce storms a group of 20,000 with joins, leaves, closes and new
// members while fan-outs run through it. A member that stays gets each message exactly once, no
// member gets a message twice, and the receipts add up to the links' messages.
func TestMembersThatStayGetEachMessageOnce(t *testing.T) {
	const churn, senders, each = 2_000, 4, 12
	stay := 18_000
	if testkit.RaceEnabled {
		stay = 3_000
	}
	h := newHub(t)
	links := make([]*tallying, stay+churn)
	for i := range links {
		c, err := h.Attach(t.Context(), Admission{
			Namespace: DefaultNamespace, Groups: []string{"g"}, Protocol: bare{},
		})
		if err != nil {
			t.Fatal(err)
		}
		links[i] = &tallying{connection: c, got: make([]uint8, senders*each)}
		if err := c.Bind(links[i]); err != nil {
			t.Fatal(err)
		}
	}
	var passing passers
	var storm, sending sync.WaitGroup
	var stop atomic.Bool
	for w := range 2 {
		storm.Go(func() {
			for i := 0; !stop.Load(); i++ {
				c := links[stay+(2*i+w)%churn].connection
				c.leaveGroup("g")
				if _, err := c.joinGroup("g"); err != nil {
					t.Error(err)
				}
				if i%16 == 0 { // a whole connection comes and goes
					passing.join(t, h, senders*each)
				}
			}
		})
	}
	deliveries := make([]*Delivery, senders*each)
	for s := range senders {
		sending.Go(func() {
			for i := range each {
				m := &Message{
					Namespace: DefaultNamespace, Kind: Binary, Payload: []byte{byte(s*each + i)},
				}
				d, err := h.Deliver(
					t.Context(), &Send{Message: m, Target: Target{Groups: []string{"g"}}},
				)
				if err != nil {
					t.Error(err)
					return
				}
				sum(t, d.Receipt())
				deliveries[s*each+i] = d
			}
		})
	}
	sending.Wait()
	stop.Store(true)
	storm.Wait()

	var got int64
	links = append(links, passing.links...)
	for i, l := range links {
		for m, n := range l.got {
			got += int64(n)
			if n > 1 || i < stay && n != 1 {
				t.Fatalf("connection %d got message %d %d times", i, m, n)
			}
		}
	}
	var written int64
	// Only now: a member that came in the storm could be sent to a moment before it got its link.
	for _, d := range deliveries {
		written += int64(d.Receipt().Written)
	}
	if got != written {
		t.Errorf("links got %d messages, receipts say %d", got, written)
	}
}

// passers are connections that come in the storm; each leaves when the next comes.
type passers struct {
	mu    sync.Mutex
	links []*tallying
}

func (p *passers) join(t *testing.T, h *Hub, messages int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := h.Attach(t.Context(), Admission{
		Namespace: DefaultNamespace, Groups: []string{"g"}, Protocol: bare{},
	})
	if err != nil {
		t.Error(err)
		return
	}
	l := &tallying{connection: c, got: make([]uint8, messages)}
	if err := c.Bind(l); err != nil {
		t.Error(err)
	}
	if n := len(p.links); n > 0 {
		p.links[n-1].connection.Close(cause.Backend.CloseStatus())
	}
	p.links = append(p.links, l)
}

// TestGroupsDoWhatTheModelDoes holds the indexes against plain maps.
func TestGroupsDoWhatTheModelDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHub(t)
		users := []string{"", "ann", "bob"}
		groups := []string{"a", "b", "c"}
		var open []*client
		member := map[*client]map[string]bool{}
		user := map[*client]string{}
		pick := func(rt *rapid.T) *client {
			if len(open) == 0 {
				rt.SkipNow()
			}
			return rapid.SampledFrom(open).Draw(rt, "client")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				u := rapid.SampledFrom(users).Draw(rt, "user")
				g := rapid.SliceOf(rapid.SampledFrom(groups)).Draw(rt, "groups")
				c := connect(t, h, u, g...)
				open, user[c], member[c] = append(open, c), u, map[string]bool{}
				for _, name := range g {
					member[c][name] = true
				}
			},
			"join": func(rt *rapid.T) {
				c, g := pick(rt), rapid.SampledFrom(groups).Draw(rt, "group")
				added, err := c.joinGroup(g)
				if err != nil || added == member[c][g] {
					rt.Fatalf("join: %v, %v", added, err)
				}
				member[c][g] = true
			},
			"leave": func(rt *rapid.T) {
				c, g := pick(rt), rapid.SampledFrom(groups).Draw(rt, "group")
				if c.leaveGroup(g) != member[c][g] {
					rt.Fatal("leave does not fit")
				}
				delete(member[c], g)
			},
			"close": func(rt *rapid.T) {
				c := pick(rt)
				c.Close(cause.Backend.CloseStatus())
				for i := range open {
					if open[i] == c {
						open = append(open[:i], open[i+1:]...)
						break
					}
				}
			},
			"": func(rt *rapid.T) {
				for _, g := range groups {
					want := 0
					for _, c := range open {
						if member[c][g] {
							want++
						}
					}
					info, err := h.Group(DefaultNamespace, g)
					if info.Members != want || errors.Is(err, ErrGroupNotFound) != (want == 0) {
						rt.Fatalf(
							"group %s has %d members (%v), want %d", g, info.Members, err, want,
						)
					}
				}
				for _, u := range users[1:] {
					want := 0
					for _, c := range open {
						if user[c] == u {
							want++
						}
					}
					if got := len(
						h.listMatching(DefaultNamespace, &Target{Users: []string{u}}),
					); got != want {
						rt.Fatalf("user %s has %d connections, want %d", u, got, want)
					}
				}
				if h.Len() != len(open) {
					rt.Fatalf("%d connections, want %d", h.Len(), len(open))
				}
				if err := h.CheckAtRest(); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}

func TestJoinAndLeaveTellWhatTheyChanged(t *testing.T) {
	h := newHub(t)
	connect(t, h, "ann", "a")
	bob := connect(t, h, "bob")
	for i := range MaxGroups - 1 {
		if _, err := bob.joinGroup(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	full := string(bob.ID())
	both := &Target{Users: []string{"ann", "bob"}}
	joined, err := h.Join(t.Context(), DefaultNamespace, both, []string{"a", "b", "a"})
	want := Joined{Matched: 2, Added: 2, Already: 1, Refused: 1, Refusals: []Refusal{
		{ConnectionID(full), "b", ErrGroupLimit},
	}}
	if err != nil || !cmp.Equal(want, joined, cmpopts.EquateErrors()) {
		t.Errorf("joined %+v, %v; want %+v", joined, err, want)
	}
	left, err := h.Leave(t.Context(), DefaultNamespace, both, []string{"a", "none"}, false)
	if want := (Left{Matched: 2, Removed: 2}); err != nil || left != want {
		t.Errorf("left %+v, %v; want %+v", left, err, want)
	}
	left, err = h.Leave(t.Context(), DefaultNamespace, both, nil, true)
	if want := (Left{Matched: 2, Removed: 128}); err != nil || left != want {
		t.Errorf("left all %+v, %v; want %+v", left, err, want)
	}
	tooMany := Admission{Namespace: "x", Groups: someNames(MaxGroups + 1), Protocol: bare{}}
	if _, err := h.Attach(t.Context(), tooMany); !errors.Is(err, ErrGroupLimit) {
		t.Errorf("attach with too many groups: %v", err)
	}
}

func someNames(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("n%04d", i)
	}
	return all
}

// TestAListingMeetsWhatStaysExactlyOnce pages through connections and groups while others come and
// go.
func TestAListingMeetsWhatStaysExactlyOnce(t *testing.T) {
	h := newHub(t)
	want := map[string]int{}
	for _, name := range someNames(300) {
		c := connect(t, h, "", name)
		want[string(c.ID())], want[name] = 1, 1
	}
	got := map[string]int{}
	everyone := &Target{Everyone: true}
	exceptNone := &Target{Everyone: true, Except: Exclusion{Users: []string{"nobody"}}}
	for _, limit := range []int{1, 7, 1000} {
		clear(got)
		var at Cursor
		for {
			var extra []*client
			for i := range 5 {
				extra = append(extra, connect(t, h, "", fmt.Sprintf("x%d", i)))
			}
			page, next, err := h.Connections(DefaultNamespace, everyone, at, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d on a page of %d, %v", len(page), limit, err)
			}
			again, nextAgain, _ := h.Connections(DefaultNamespace, exceptNone, at, limit)
			if diff := cmp.Diff(page, again); diff != "" || next != nextAgain {
				t.Fatalf("a walked page and a matched page differ: %s", diff)
			}
			for _, c := range page {
				got[string(c.ID)]++
			}
			for _, c := range extra {
				c.Close(cause.Backend.CloseStatus())
			}
			if at = next; next == (Cursor{}) {
				break
			}
		}
		for {
			page, next, err := h.Groups(DefaultNamespace, at, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d on a page of %d, %v", len(page), limit, err)
			}
			for _, g := range page {
				got[g.Name] += g.Members
			}
			if at = next; next == (Cursor{}) {
				break
			}
		}
		for name := range got {
			if want[name] == 0 {
				delete(got, name) // it came and went during the listing
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}
