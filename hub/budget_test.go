package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// closedOf is how many of some clients are closed.
func closedOf(clients []*client) (n int) {
	for _, c := range clients {
		if _, ended := c.Ended(); ended {
			n++
		}
	}
	return n
}

// TestBudgetSparesTheAttachedWhileTheDetachedHoldMost, also where the first of the detached hold
// only messages that a whole group holds, and whether or not links take their time to end.
func TestBudgetSparesTheAttachedWhileTheDetachedHoldMost(t *testing.T) {
	for _, lingers := range []bool{false, true} {
		t.Run(fmt.Sprint("lingering ", lingers), func(t *testing.T) {
			h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
			payload := strings.Repeat("x", 50_000)
			var attached []*client
			for i := range 30 {
				c := connectAs(t, h, numbered{}, fmt.Sprint("attached ", i), "g")
				c.link.lingers = lingers
				attached = append(attached, c)
			}
			for i := range 200 {
				connectAs(t, h, numbered{}, fmt.Sprint("shares ", i), "g").lose()
			}
			for range 4 {
				send(t, h, toGroup("g", payload))
			}
			const own = 300
			for i := range own {
				user := fmt.Sprint("own ", i)
				connectAs(t, h, numbered{}, user).lose()
				send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{user}}})
				if n := closedOf(attached); n > 0 {
					t.Fatalf("with %d that hold something by themselves %d of the "+
						"attached are closed", i+1, n)
				}
				if have := h.holdings.total.bytes.Load(); have > minHeldBytes {
					t.Fatalf("%d bytes are held", have)
				}
			}
			if h.Len() >= 30+200+own {
				t.Error("nobody was closed: the test proves less than it should")
			}
		})
	}
}

// A message that many closing connections share counts once as leaving.
func TestBudgetHoldsWhileManyWhoShareLeave(t *testing.T) {
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	payload := strings.Repeat("x", 100_000)
	var stuck []*client
	for i := range 100 {
		c := connectAs(t, h, numbered{}, fmt.Sprint("stuck ", i), "g")
		c.link.lingers, c.link.full = true, true
		stuck = append(stuck, c)
	}
	for range 10 {
		send(t, h, toGroup("g", payload))
	}
	shared := h.holdings.total.bytes.Load()
	for _, c := range stuck {
		c.Close(cause.AckStuck.CloseStatus())
	}
	if n := h.holdings.total.stayingBytes(); n < 0 {
		t.Errorf("%d bytes stay", n)
	}
	for i := range 40 {
		user := fmt.Sprint("hog ", i)
		connectAs(t, h, numbered{}, user)
		for range 10 {
			send(t, h, &Send{Message: text(payload), Target: Target{Users: []string{user}}})
		}
		if have, most := h.holdings.total.bytes.Load(), shared+minHeldBytes; have > most {
			t.Fatalf("%d bytes are held, want at most %d", have, most)
		}
	}
}

func TestANamespaceOverItsBudgetClosesNobodyElsewhere(t *testing.T) {
	h := newHub(t, func(c *Config) { c.NamespaceHeldBytes = minHeldBytes })
	c, err := h.Attach(t.Context(), Admission{
		Namespace: "other", User: "bob", Groups: []string{"g"}, Protocol: numbered{},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &memory{connection: c}
	if err := c.Bind(l); err != nil {
		t.Fatal(err)
	}
	c.Unbind(l, cause.Lost.CloseStatus())
	m := text(strings.Repeat("x", 1000))
	m.Namespace = "other"
	send(t, h, &Send{Message: m, Target: Target{Groups: []string{"g"}}})
	hog := connectAs(t, h, numbered{}, "hog")
	for closed := false; !closed; _, closed = hog.Ended() {
		send(t, h, &Send{
			Message: text(strings.Repeat("x", 100_000)), Target: Target{Users: []string{"hog"}},
		})
	}
	if how, ended := c.Ended(); ended {
		t.Errorf("closed with %v", how)
	}
}

// More clients hold each message than it has bytes. When such messages fill the budget, these
// clients pay, and not the clients that hold little.
func TestManyWhoShareSmallMessagesPayForThem(t *testing.T) {
	const crowd, most = 700, 3 << 19 // 2 KB for each client
	h := newHub(t)
	// Below the least that Validate allows: else the test takes millions of messages.
	h.config.HeldBytes, h.config.NamespaceHeldBytes = most, most
	var innocent, sharing []*client
	for i := range 50 {
		user := fmt.Sprint("innocent ", i)
		innocent = append(innocent, connectAs(t, h, numbered{}, user))
		send(t, h, &Send{Message: text("x"), Target: Target{Users: []string{user}}})
	}
	for i := range crowd {
		sharing = append(sharing, connectAs(t, h, numbered{}, fmt.Sprint("shares ", i), "g"))
	}
	for sent := int64(0); closedOf(sharing)+closedOf(innocent) == 0; sent++ {
		if sent > most/messageOverhead {
			t.Fatal("the budget does not hold")
		}
		send(t, h, toGroup("g", "x"))
	}
	if n := closedOf(innocent); n > 0 {
		t.Errorf("%d clients were closed that hold one message, and %d that share thousands",
			n, closedOf(sharing))
	}
	if have := h.holdings.total.stayingBytes(); have > most {
		t.Errorf("%d bytes are held", have)
	}
}

// A search for holders that frees nothing is not repeated before an eighth of the budget has come.
func TestASearchForHoldersInVainIsNotRepeatedAtOnce(t *testing.T) {
	const most = 800
	var h held
	searches := 0
	nobody := func(func(*Connection)) { searches++ }
	fill := func(bytes int64) {
		for range bytes {
			h.bytes.Add(1)
			h.reclaimBytes(most, nobody)
		}
	}
	want := func(step string, n int) {
		t.Helper()
		if searches != n {
			t.Errorf("%s: %d searches, want %d", step, searches, n)
		}
		searches = 0
	}
	fill(most)
	want("full", 0)
	fill(100)
	want("over", 1)
	fill(100)
	want("an eighth more", 1)
	h.bytes.Store(0)
	fill(most)
	want("full again", 0)
	fill(2)
	want("over again", 1)
}

// The lists of outboxes are in the budgets: a small message for many takes more memory for its
// entries in them than for itself. The memory is given back when the clients confirm, also where
// some messages stay, and when the clients leave.
func TestWhatListsOfOutboxesTakeIsHeld(t *testing.T) {
	const clients = 100
	messages := 5000
	if testkit.RaceEnabled {
		messages = 500
	}
	h := newHub(t)
	var all []*Connection
	for range clients {
		c, err := h.Attach(t.Context(), Admission{
			Namespace: DefaultNamespace, Groups: []string{"g"}, Protocol: numbered{},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Bind(&quiet{c}); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	takes := growth(1, func() {
		for range messages {
			send(t, h, toGroup("g", "x"))
		}
	})
	held := heldBytes(t, h)
	if most := held + held/4; takes > most {
		t.Errorf("the process has grown by %d bytes, %d are held", takes, held)
	}
	if err := h.CheckAtRest(); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		if err := c.Ack(uint64(messages - 10)); err != nil {
			t.Fatal(err)
		}
	}
	if n, most := heldBytes(t, h), int64(10*1000+clients*8*64); n > most {
		t.Errorf("%d bytes are held when ten messages wait, want at most %d", n, most)
	}
	if err := h.CheckAtRest(); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		c.Close(cause.Client.CloseStatus())
	}
	if n := h.holdings.total.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are held when all have left", n)
	}
}

// A token without a user is not worth a share for each socket: at one address they pay as one user.
func TestClientsWithoutAUserPayAsOneAtAnAddress(t *testing.T) {
	h := newHub(t, func(c *Config) { c.HeldBytes = minHeldBytes })
	payload := strings.Repeat("x", 100_000)
	hold := func(user, address string, messages int) *client {
		c, err := h.Attach(t.Context(), Admission{
			Namespace: DefaultNamespace, User: user, Protocol: numbered{}, RemoteAddress: address,
		})
		if err != nil {
			t.Fatal(err)
		}
		cl := &client{Connection: c}
		cl.bind(t)
		for range messages {
			send(t, h, &Send{
				Message: text(payload), Target: Target{Connections: []string{string(c.ID())}},
			})
		}
		return cl
	}
	others := []*client{
		hold("ann", "10.0.0.1:1", 4), hold("bob", "10.0.0.2:1", 4), hold("", "10.0.0.3:1", 4),
	}
	var crowd []*client
	for i := range 200 {
		crowd = append(crowd, hold("", fmt.Sprint("10.0.0.9:", i), 1))
	}
	if closedOf(crowd) == 0 || closedOf(others) > 0 {
		t.Errorf("closed %d of a crowd at one address, %d of others that hold less",
			closedOf(crowd), closedOf(others))
	}
}
