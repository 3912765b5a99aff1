package hub

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare/sharetest"
	"github.com/connhub/connhub/internal/testkit"
)

// holdingClient is a client of the property test below, and the messages that it holds.
type holdingClient struct {
	*client
	holder   sharetest.Holder
	messages int // none of them is confirmed
}

// listOf returns the bytes that an outbox's list takes after so many messages came and none left.
func listOf(messages int) int64 {
	var list []*Envelope
	for range messages {
		list = append(list, nil)
	}
	if cap(list) <= 8 {
		return 0
	}
	return 8 * int64(cap(list))
}

// payers is an observer that keeps which connections were closed, in order.
type payers []ConnectionID

func (p *payers) Applied(c *Connection, op Op) {
	if op.Kind == OpClose && op.Close.Cause == cause.Memory {
		*p = append(*p, c.ID())
	}
}

// After any sequence of holds the budgets are within their bounds. Each connection that was closed
// for them was among the largest at each level, by a dumb count of the bytes.
func TestBudgetsCloseTheLargestWhateverFillsThem(t *testing.T) {
	testkit.SetChecksUnderRace(t, 10)
	rapid.Check(t, func(t *rapid.T) {
		var closed payers
		config := DefaultConfig()
		config.ID, config.HeldBytes, config.NamespaceHeldBytes = NewID(),
			2*minHeldBytes, minHeldBytes
		// No connection is closed for a bound of its own.
		config.Outbox.Bytes, config.Window.Bytes = 1<<30, 1<<30
		observeCloses(&closed)(&config)
		h, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		clients := make(map[ConnectionID]*holdingClient)
		var order []ConnectionID // in which they came
		holders := func() (all []sharetest.Holder) {
			for _, c := range clients {
				if c.holder.Bytes > 0 {
					all = append(all, c.holder)
				}
			}
			return all
		}
		attach := func(t *rapid.T) *holdingClient {
			ns := rapid.SampledFrom([]string{"default", "evil", "other"}).Draw(t, "namespace")
			user := rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user")
			host := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}).Draw(t, "host")
			c, err := h.Attach(t.Context(), Admission{
				Namespace: ns, User: user, Protocol: numbered{},
				RemoteAddress: fmt.Sprintf("%s:%d", host, len(order)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if user == "" {
				user = "at " + host // one payer
			}
			cl := &holdingClient{client: &client{Connection: c}, holder: sharetest.Holder{
				Of: len(order), Namespace: ns, User: user,
			}}
			cl.link = &memory{connection: c}
			if err := c.Bind(cl.link); err != nil {
				t.Fatal(err)
			}
			if cl.holder.First = rapid.Bool().Draw(t, "detached"); cl.holder.First {
				cl.lose()
			}
			clients[c.ID()] = cl
			order = append(order, c.ID())
			return cl
		}
		over := func(namespace string, most int64) bool {
			n := int64(0)
			for _, o := range holders() {
				if namespace == "" || o.Namespace == namespace {
					n += o.Bytes
				}
			}
			return n > most
		}
		for range rapid.IntRange(1, 60).Draw(t, "sends") {
			var to *holdingClient
			if len(order) > 0 {
				to = clients[order[rapid.IntRange(0, len(order)-1).Draw(t, "to")]]
			}
			if to == nil || rapid.IntRange(0, 2).Draw(t, "new") == 0 {
				to = attach(t)
			}
			m := text(strings.Repeat("x", rapid.IntRange(1, 10).Draw(t, "size")*100_000))
			m.Namespace = to.holder.Namespace
			closed = nil
			if _, err := h.Deliver(t.Context(), &Send{
				Message: m, Target: Target{Connections: []string{string(to.ID())}},
			}); err != nil {
				t.Fatal(err)
			}
			to.messages++
			to.holder.Bytes += messageWeight(m) + int64(
				len(numbered{}.Encode(m, Route{Kind: RouteConnection})),
			)
			to.holder.Bytes += listOf(to.messages) - listOf(to.messages-1)
			atFirst := holders()
			inOne, inAll := over(m.Namespace, config.NamespaceHeldBytes), over("", config.HeldBytes)
			for _, id := range closed {
				c := clients[id]
				if c == nil {
					t.Fatalf("%v was closed twice", id)
				}
				payers := holders()
				if inOne = inOne && over(m.Namespace, config.NamespaceHeldBytes*7/8); inOne {
					payers = sharetest.InCommon(payers, to.holder, sharetest.InNamespace)
				} else if !inAll {
					t.Fatalf("%+v was closed though the budgets hold", c.holder)
				}
				sharetest.CheckLevels(t, atFirst, payers, c.holder)
				delete(clients, id)
			}
			if over("", config.HeldBytes) || over(m.Namespace, config.NamespaceHeldBytes) {
				t.Fatal("a budget does not hold")
			}
			if err := h.CheckAtRest(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range clients {
			c.Connection.Close(cause.Client.CloseStatus())
		}
	})
}

// Twelve connections of one namespace that read nothing cost the small ones of another namespace
// nothing.
func TestANamespaceThatReadsNothingPaysForItself(t *testing.T) {
	h := newHub(t, func(c *Config) {
		c.HeldBytes, c.NamespaceHeldBytes = 4*minHeldBytes, 8*minHeldBytes
	})
	var small []*client
	for i := range 50 {
		user := fmt.Sprint("small ", i)
		c := connectAs(t, h, numbered{}, user)
		c.lose()
		send(t, h, &Send{Message: text("hello"), Target: Target{Users: []string{user}}})
		small = append(small, c)
	}
	var evil []*Connection
	for i := range 12 {
		c, err := h.Attach(
			t.Context(), Admission{Namespace: "evil", User: fmt.Sprint(i), Protocol: routed{}},
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Bind(&memory{connection: c, stalled: true, lingers: true}); err != nil {
			t.Fatal(err)
		}
		evil = append(evil, c)
	}
	m := text(strings.Repeat("x", 900_000))
	m.Namespace = "evil"
	for range 4 {
		for i := range evil {
			send(t, h, &Send{Message: &Message{
				Namespace: "evil", Kind: Text, Payload: m.Payload,
			}, Target: Target{Users: []string{fmt.Sprint(i)}}})
		}
	}
	closed := 0
	for _, c := range evil {
		if how, ended := c.Ended(); ended && how.Cause == cause.Memory {
			closed++
		}
	}
	if closed == 0 || closedOf(small) > 0 {
		t.Errorf("closed %d of those that hold megabytes, %d of those that hold a few bytes",
			closed, closedOf(small))
	}
	for _, c := range evil {
		if l := c.link; l != nil {
			c.Unbind(l, cause.Lost.CloseStatus())
		}
	}
}
