package hub

import (
	"fmt"
	"testing"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/fairshare"
)

// discard is a link whose wire takes everything at once and remembers nothing. It has no lock: only
// a single goroutine may use it.
type discard struct {
	connection *Connection
	batch      Batch
}

func (*discard) Prefetch(int) {}
func (*discard) Stirs() bool  { return false }

func (l *discard) Flush() {
	for l.connection.Take(l, &l.batch, 64<<10) {
		l.connection.Written(l, l.batch.Units(len(l.batch.Bytes)))
		if l.batch.Last {
			return
		}
	}
}

func (l *discard) Close(how cause.CloseStatus) { l.connection.Unbind(l, how) }

// closes is an observer as the process has: it asks for the last op only.
type closes struct{ seen int }

func (s *closes) Applied(_ *Connection, op Op) {
	if op.Kind == OpClose {
		s.seen++
	}
}

// benchmarkHub returns a hub with connections in group g, each with a user that is its number.
func benchmarkHub(b *testing.B, p Protocol, connections int) (*Hub, []*Connection) {
	h := newHub(b, observeCloses(&closes{}))
	all := make([]*Connection, connections)
	for i := range all {
		c, err := h.Attach(b.Context(), Admission{
			Namespace: DefaultNamespace, User: fmt.Sprint(i), Groups: []string{"g"}, Protocol: p,
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Bind(&discard{connection: c}); err != nil {
			b.Fatal(err)
		}
		all[i] = c
	}
	b.ReportAllocs()
	return h, all
}

func perDelivery(b *testing.B, deliveries int) {
	b.ReportMetric(
		float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(deliveries), "ns/delivery",
	)
}

// BenchmarkFanout is our own share of a delivery in a fan-out: match, push, take, written. Its
// allocations are the send's, not the delivery's.
func BenchmarkFanout(b *testing.B) {
	for _, p := range []Protocol{bare{}, routed{}, numbered{}} {
		for _, connections := range []int{1, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", p.Name(), connections), func(b *testing.B) {
				h, all := benchmarkHub(b, p, connections)
				_, acks := p.(Numbered)
				sent := uint64(0)
				for b.Loop() {
					if _, err := h.Deliver(b.Context(), toGroup("g", "hi")); err != nil {
						b.Fatal(err)
					}
					if sent++; acks && sent%100 == 0 {
						for _, c := range all {
							if err := c.Ack(sent); err != nil {
								b.Fatal(err)
							}
						}
					}
				}
				perDelivery(b, connections)
			})
		}
	}
}

// BenchmarkUnicast is our own share of a send to a user among 1,000.
func BenchmarkUnicast(b *testing.B) {
	h, _ := benchmarkHub(b, bare{}, 1000)
	for b.Loop() {
		s := &Send{Message: text("hi"), Target: Target{Users: []string{"500"}}}
		if _, err := h.Deliver(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMatch finds 5,000 connections: in a group, in it with a user excluded, and in two groups
// that have them all.
func BenchmarkMatch(b *testing.B) {
	const connections = 5000
	h, all := benchmarkHub(b, bare{}, connections)
	for _, c := range all {
		if _, err := c.joinGroup("too"); err != nil {
			b.Fatal(err)
		}
	}
	for name, target := range map[string]Target{
		"group":  {Groups: []string{"g"}},
		"except": {Groups: []string{"g"}, Except: Exclusion{Users: []string{"7"}}},
		"groups": {Groups: []string{"g", "too"}},
	} {
		b.Run(name, func(b *testing.B) {
			var m matcher
			b.ReportAllocs()
			for b.Loop() {
				m.findMatches(h.findNamespace(DefaultNamespace), &target, false)
				if len(m.matches) < connections-1 {
					b.Fatal(len(m.matches))
				}
				m.resetMatches()
			}
			perDelivery(b, connections)
		})
	}
}

// BenchmarkOutbox brings a message through an outbox: alone, and behind a hundred others, each of
// them kept until the client confirms it.
func BenchmarkOutbox(b *testing.B) {
	e := &Envelope{Message: text("hi"), shared: []byte("hi")}
	for _, waiting := range []int{0, 100} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			var o outbox
			for range waiting {
				o.pushEnvelope(e)
				o.numberFirst()
			}
			b.ReportAllocs()
			for b.Loop() {
				o.pushEnvelope(e)
				o.numberFirst()
				o.releaseTail(1)
			}
		})
	}
}

// BenchmarkOverflow is a message for a client that has stopped reading: its outbox is full.
func BenchmarkOverflow(b *testing.B) {
	for policy, name := range map[overflow.Policy]string{
		overflow.DropOldest: "oldest", overflow.DropNewest: "newest", overflow.Conflate: "conflate",
	} {
		b.Run(name, func(b *testing.B) {
			h := newHub(b)
			c := connectAs(b, h, bare{}, "ann", "g")
			c.link.stall(true)
			s := func() *Send {
				s := toGroup("g", "hi")
				s.Policy, s.ConflationKey = policy, "k"
				return s
			}
			for range h.config.Outbox.Messages {
				send(b, h, toGroup("g", "hi"))
			}
			b.ReportAllocs()
			for b.Loop() {
				send(b, h, s())
			}
		})
	}
}

// BenchmarkJoinLeave ends and begins a membership in a group of 100,000.
func BenchmarkJoinLeave(b *testing.B) {
	_, all := benchmarkHub(b, bare{}, 100_000)
	for i := 0; b.Loop(); i++ {
		c := all[i*7919%len(all)]
		c.leaveGroup("g")
		if _, err := c.joinGroup("g"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyGroups ends and begins a membership among a million groups of two.
func BenchmarkManyGroups(b *testing.B) {
	const groups, groupsEach = 1_000_000, 100
	_, all := benchmarkHub(b, bare{}, 2*groups/groupsEach)
	name := func(i int) string { return fmt.Sprintf("pair-%07d", i) }
	join := func(c *Connection, group string) {
		if _, err := c.joinGroup(group); err != nil {
			b.Fatal(err)
		}
	}
	for i := range groups {
		join(all[i%len(all)], name(i))
		join(all[(i+1)%len(all)], name(i))
	}
	for i := 0; b.Loop(); i++ {
		n := i * 7919 % groups
		c, group := all[n%len(all)], name(n)
		c.leaveGroup(group)
		join(c, group)
	}
}

// BenchmarkAttachClose attaches and closes a connection among 15,000, in two groups.
func BenchmarkAttachClose(b *testing.B) {
	h, _ := benchmarkHub(b, bare{}, 15_000)
	for b.Loop() {
		c, err := h.Attach(b.Context(), Admission{
			Namespace: DefaultNamespace, User: "ann", Groups: []string{"g", "own"},
			Protocol: bare{},
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Bind(&discard{connection: c}); err != nil {
			b.Fatal(err)
		}
		c.Close(cause.Client.CloseStatus())
	}
}

// BenchmarkReclaim is a run of reclaim, which closes connections when a budget is over its bound.
// It looks at all of them.
func BenchmarkReclaim(b *testing.B) {
	const connections = 100_000
	for b.Loop() {
		var shares fairshare.Shares[int]
		for i := range connections {
			shares.Add(fairshare.Holder[int]{
				Of: i, Namespace: fmt.Sprint(i % 10), User: fmt.Sprint(i), Bytes: int64(i%1000) + 1,
			})
		}
		for range connections / 8 {
			shares.Next()
		}
	}
}
