package hub

import (
	"fmt"
	"testing"
)

// discard is a link whose wire takes everything at once and remembers nothing.
type discard struct {
	connection *Connection
	batch      Batch
}

func (l *discard) Flush() {
	for l.connection.Take(l, &l.batch, 64<<10) {
		l.connection.Written(l, l.batch.Units(len(l.batch.Bytes)))
	}
}

func (l *discard) Close(how Close) { l.connection.Unbind(l, how) }

func benchmarkHub(b *testing.B, p Protocol, connections int) *Hub {
	h := newHub(b)
	for i := range connections {
		c, err := h.Attach(b.Context(), Admission{
			Namespace: DefaultNamespace, User: fmt.Sprint(i), Groups: []string{"g"}, Protocol: p,
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Bind(&discard{connection: c}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	return h
}

// BenchmarkFanout is our own share of one delivery in a fan-out to 1,000: push, take, written.
func BenchmarkFanout(b *testing.B) {
	const connections = 1000
	h := benchmarkHub(b, bare{}, connections)
	for b.Loop() {
		if _, err := h.Deliver(b.Context(), toGroup("g", "hi")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/connections, "ns/delivery")
}

// BenchmarkUnicast is our own share of a send to one user among 1,000.
func BenchmarkUnicast(b *testing.B) {
	h := benchmarkHub(b, bare{}, 1000)
	for b.Loop() {
		s := &Send{Message: text("hi"), Target: Target{Users: []string{"500"}}}
		if _, err := h.Deliver(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoinLeave is one membership coming and going in a group of 10,000.
func BenchmarkJoinLeave(b *testing.B) {
	h := benchmarkHub(b, bare{}, 10_000)
	c := h.matching(DefaultNamespace, &Target{Users: []string{"5000"}})[0]
	for b.Loop() {
		c.leave("g")
		if _, err := c.join("g"); err != nil {
			b.Fatal(err)
		}
	}
}
