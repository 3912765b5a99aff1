package hub

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
)

// heldBytes returns the bytes held by both budgets, which must be the same here.
func heldBytes(t *testing.T, h *Hub) int64 {
	t.Helper()
	total := h.holdings.total.bytes.Load()
	if ns := h.findNamespace(DefaultNamespace); ns != nil && ns.held.bytes.Load() != total {
		t.Errorf("the namespace holds %d, the hub %d", ns.held.bytes.Load(), total)
	}
	return total
}

func TestWhatIsHeldCountsOnceUntilNobodyHoldsIt(t *testing.T) {
	h := newHub(t)
	one, two := connectAs(t, h, numbered{}, "one", "g"), connectAs(t, h, numbered{}, "two", "g")
	plain := connect(t, h, "three", "g")
	payload := strings.Repeat("x", 1000)
	size := func(encodings int) int64 { // of a message: its payload, and each encoding
		return messageOverhead + int64(
			len(payload)+encodings*len(routed{}.Encode(text(payload), Route{RouteGroup, "g"})),
		)
	}
	want := func(step string, n int64) {
		t.Helper()
		if got := heldBytes(t, h); got != n {
			t.Errorf("%s: %d bytes held, want %d", step, got, n)
		}
	}
	send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{"three"}}})
	want("written to a plain client", 0)
	send(t, h, toGroup("g", payload))
	want("two have not confirmed", size(2))
	if err := one.Ack(1); err != nil {
		t.Fatal(err)
	}
	want("one has not confirmed", size(2))
	two.lose()
	want("it is detached", size(2))
	two.Close(cause.Client.CloseStatus())
	want("it is closed", 0)

	plain.link.stall(true)
	send(t, h, toGroup("g", payload))
	want("a plain client does not read", size(2))
	if err := one.Ack(2); err != nil {
		t.Fatal(err)
	}
	want("only it holds the message", size(2))
	plain.link.stall(false)
	want("it has read", 0)
	plain.link.stall(true)
	late := toGroup("g", payload)
	late.Message.Expires = time.Now().Add(-time.Second)
	send(t, h, late)
	plain.link.stall(false)
	want("expired", 0)
	one.Close(cause.Client.CloseStatus())
	want("closed", 0)
}

// Over a budget the largest tails go first. Of two equal tails the detached client's goes first.
// The others stay with their messages.
func TestBudgetClosesThoseWhoHoldMostAndAmongEqualsTheDetachedFirst(t *testing.T) {
	const unit = 100_000
	for name, config := range map[string]func(*Config){
		"of the hub":       func(c *Config) { c.HeldBytes = minHeldBytes },
		"of the namespace": func(c *Config) { c.NamespaceHeldBytes = minHeldBytes },
		"of both, the least": func(c *Config) {
			c.HeldBytes, c.NamespaceHeldBytes = minHeldBytes, 2*minHeldBytes
		},
	} {
		t.Run(name, func(t *testing.T) {
			var closed ends
			h := newHub(t, config, observeCloses(&closed))
			hold := func(user string, units int) *client {
				c := connectAs(t, h, numbered{}, user)
				c.link.lingers = true // as a wire does that says goodbye to a slow client
				for range units {
					payload := strings.Repeat("x", unit)
					send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{user}}})
				}
				return c
			}
			small := hold("small", 2)
			small.lose()
			light := hold("light", 1)
			hold("equal, a", 8)
			hold("equal, b", 8).lose()
			hold("equal, c", 8)
			hold("large tail", 13)
			for i := 0; len(closed) < 2; i++ {
				hold(fmt.Sprint("more ", i), 4)
				if i > 1000 {
					t.Fatalf("closed %v, %d bytes held", closed, heldBytes(t, h))
				}
			}
			want := []string{"large tail: memory", "equal, b: memory"}
			if diff := cmp.Diff(want, []string(closed[:2])); diff != "" {
				t.Error(diff)
			}
			for _, c := range []*client{light, small} {
				if _, ended := c.Ended(); ended {
					t.Error("one that holds little was closed for those who hold much, whose " +
						"links have not ended")
				}
			}
			if most := h.config.HeldBytes; h.holdings.total.stayingBytes() > min(
				most, h.config.NamespaceHeldBytes,
			) {
				t.Errorf("%d bytes held", heldBytes(t, h))
			}
			if err := h.CheckAtRest(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Closing detached connections does not free messages that attached connections hold, too. The
// connection that holds much by itself is closed instead.
func TestBudgetDoesNotCloseTheDetachedInVain(t *testing.T) {
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	const detached = 5 * manyHold
	for i := range detached {
		c := connectAs(t, h, numbered{}, fmt.Sprint("detached ", i), "g")
		defer c.Close(cause.Client.CloseStatus())
		c.lose()
	}
	connectAs(t, h, numbered{}, "shares it", "g")
	payload := strings.Repeat("x", 100_000)
	for range 10 {
		send(t, h, toGroup("g", payload))
	}
	hog := connectAs(t, h, numbered{}, "hog")
	for range 1000 {
		if _, closed := hog.Ended(); closed {
			break
		}
		send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{"hog"}}})
	}
	if n := h.Len(); n != detached+1 {
		t.Errorf("%d connections are left, want %d", n, detached+1)
	}
}

// Clients that ask and do not read the answers hold no more together than others.
func TestRepliesThatWaitCountInTheBudgets(t *testing.T) {
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	asks := func(user string, replies int) *client {
		c := connect(t, h, user)
		c.link.stall(true)
		for range replies {
			if err := c.Reply(Binary, make([]byte, 1000-frameHeader)); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	asks("few", 1)
	if n := heldBytes(t, h); n != 0 {
		t.Errorf("%d bytes held for one reply", n)
	}
	reads := asks("reads", 30)
	if n := heldBytes(t, h); n != 30_000 {
		t.Errorf("%d bytes held for 30 replies", n)
	}
	reads.link.stall(false)
	left := asks("left", 30)
	left.Close(cause.Client.CloseStatus())
	most, last := asks("most", 60), reads
	if n := heldBytes(t, h); n != 60_000 {
		t.Errorf("%d bytes held when others have read, or left", n)
	}
	for i := range minHeldBytes/40_000 + 1 {
		last = asks(fmt.Sprint("more ", i), 40)
	}
	if how, _ := most.Ended(); how.Cause != cause.Memory {
		t.Errorf("the one that holds most ended with %v", how)
	}
	if _, closed := last.Ended(); closed || heldBytes(t, h) > minHeldBytes {
		t.Errorf("%d bytes held, last one closed: %t", heldBytes(t, h), closed)
	}
}

// packed is numbered, and sends fewer bytes than it holds.
type packed struct{ numbered }

func (packed) Encode(*Message, Route) []byte { return []byte("packed") }

// A message's bytes are given back when no connection holds it, however few of them go over the
// wire. A connection counts with all these bytes.
func TestBudgetClosesThoseWhoHoldMostOfItAndNotMostOnTheWire(t *testing.T) {
	const unit = 100_000
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	hold := func(p Protocol, user string) *client {
		c := connectAs(t, h, p, user)
		c.link.lingers = true // as a wire does that says goodbye to a slow client
		return c
	}
	light := hold(numbered{}, "light")
	heavy := []*client{
		hold(packed{}, "0"), hold(packed{}, "1"), hold(packed{}, "2"), hold(packed{}, "3"),
	}
	say := func(user string) {
		send(t, h, &Send{
			Message: text(strings.Repeat("x", unit)), Target: Target{Users: []string{user}},
		})
	}
	say("light")
	closed := 0
	for i := 0; closed == 0; i++ {
		say(fmt.Sprint(i % len(heavy)))
		for _, c := range heavy {
			if _, ended := c.Ended(); ended {
				closed++
			}
		}
		if i > 1000 {
			t.Fatal("1000 messages fit")
		}
	}
	if _, ended := light.Ended(); ended || closed != 1 {
		t.Errorf("closed %d who hold much, light %t", closed, ended)
	}
	if err := h.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// ends is an observer that keeps whose connection ended, and why.
type ends []string

func (e *ends) Applied(c *Connection, op Op) {
	*e = append(*e, fmt.Sprintf("%s: %v", c.state.User, op.Close.Cause))
}

func TestUsersAndAddressesHaveSomeDetachedConnectionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(c *Config) { c.DetachedPerUser, c.DetachedPerAddress = 2, 3 })
		var all []*client
		lose := func(user string) {
			c := connectAs(t, h, numbered{}, user)
			all = append(all, c)
			c.lose()
			time.Sleep(time.Millisecond)
		}
		closed := func() (which []int) {
			for i, c := range all {
				if how, ended := c.Ended(); ended {
					which = append(which, i)
					if how.Cause != cause.DetachedLimit {
						t.Errorf("%d ended with %v", i, how)
					}
				}
			}
			return which
		}
		want := func(step, which string) {
			t.Helper()
			if got := fmt.Sprint(closed()); got != which {
				t.Errorf("%s: closed %s, want %s", step, got, which)
			}
		}
		lose("ann")
		lose("ann")
		want("two of a user", "[]")
		lose("ann")
		want("three of a user", "[0]")
		lose("bob")
		want("three of an address", "[0]")
		lose("") // of no user, but from there
		want("four of an address", "[0 1]")
		all[2].bind(t)
		lose("cat")
		want("one has come back", "[0 1]")
		if n := h.detached.len(); n != 3 {
			t.Errorf("%d detached, want 3", n)
		}
		time.Sleep(2 * time.Minute)
		if n := h.detached.len(); n != 0 || len(h.detached.byUser)+len(h.detached.byAddress) != 0 {
			t.Errorf("%d detached after the resume window, %v, %v",
				n, h.detached.byUser, h.detached.byAddress)
		}
	})
}

// When a network goes away, thousands are lost at once. The bounds hold all the same, and no
// connection is closed without need.
func TestBoundsOfTheDetachedHoldWhenManyAreLostAtOnce(t *testing.T) {
	h := newHub(t, func(c *Config) { c.DetachedPerUser, c.DetachedPerAddress = 50, 120 })
	for range 3 {
		var lost sync.WaitGroup
		for i := range 600 {
			c := connectAs(t, h, numbered{}, fmt.Sprint("user ", i%3))
			lost.Go(c.lose)
		}
		lost.Wait()
		if n := h.detached.len(); n != 120 {
			t.Errorf("%d detached, want 120", n)
		}
	}
}

func TestClientThatCameBackIsNotClosedForOnesThatDidNot(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann")
	token := c.link.token(t)
	c.lose()
	c.resume(t, token)
	c.closeDetached(cause.DetachedLimit.CloseStatus()) // decided before it came
	if how, ended := c.Ended(); ended {
		t.Errorf("closed with %v", how)
	}
}

// A client that does not read keeps what its link has taken until its close times out. When closed
// connections hold an eighth of the budget, the next ones are cut, and those that hold nothing are
// not.
func TestClosedConnectionsThatHoldTooMuchAreCut(t *testing.T) {
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	payload := strings.Repeat("x", 100_000)
	var codes []uint16
	var slow []*client
	closeOf := func(c *client) uint16 {
		c.link.lingers = true
		c.Close(cause.Memory.CloseStatus())
		return c.link.closed[0].Code
	}
	for i := range 20 {
		c := connectAs(t, h, numbered{}, fmt.Sprint("slow", i))
		c.link.full = true
		send(t, h, &Send{
			Message: text(payload), Target: Target{Users: []string{fmt.Sprint("slow", i)}},
		})
		slow = append(slow, c)
		codes = append(codes, closeOf(c))
	}
	each := h.holdings.total.leaving.Load() / int64(len(slow))
	graceful := int(minHeldBytes / leavingShare / each)
	for i, code := range codes {
		if want := map[bool]uint16{true: 1013, false: 0}[i < graceful]; code != want {
			t.Errorf("connection %d of 20 that hold %d bytes each: code %d, want %d",
				i, each, code, want)
		}
	}
	idle, reader := connectAs(t, h, numbered{}, "idle"), connectAs(t, h, numbered{}, "reader")
	if code := closeOf(idle); code != 1013 {
		t.Errorf("a connection that holds nothing: code %d, want 1013", code)
	}
	send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{"reader"}}})
	if code := closeOf(reader); code != 1013 {
		t.Errorf("a connection whose client reads, and confirms nothing: code %d, want 1013", code)
	}
	for _, c := range append(slow, idle, reader) {
		c.Unbind(c.link, cause.Memory.CloseStatus())
	}
}
