package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
)

func newBroker(t testing.TB, change ...func(*Config)) *Broker {
	t.Helper()
	c := DefaultConfig()
	c.Hub = "h"
	for _, f := range change {
		f(&c)
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newConnection returns a connection of a hub that tells no sink.
func newConnection(t testing.TB) *hub.Connection {
	t.Helper()
	c := hub.DefaultConfig()
	c.ID = hub.NewID()
	h, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := h.Attach(t.Context(), hub.Admission{
		Namespace: hub.DefaultNamespace, Protocol: named{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

// named is a protocol without acks.
type named struct{}

func (named) Name() string                                           { return "named" }
func (named) RouteKey(r hub.Route) hub.Route                         { return r }
func (named) Encode(m *hub.Message, _ hub.Route) []byte              { return m.Payload }
func (named) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte { return dst }
func (named) AppendReply(dst []byte, _ hub.PayloadKind, message []byte) []byte {
	return append(dst, message...)
}

var emitted = hub.Op{Kind: hub.OpEvent, Ordinal: 2, Event: &hub.ClientEvent{Name: "m"}}

func subscribe(t testing.TB, b *Broker) *Subscription {
	t.Helper()
	s, err := b.Subscribe(Filter{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEventsWithoutSubscriberCostNothing(t *testing.T) {
	b, c := newBroker(t), newConnection(t)
	if n := testing.AllocsPerRun(100, func() { b.Applied(c, emitted) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// An op that is no event has no ordinal: a client that comes back on another link is attached
// again.
func TestAnOpWithoutOrdinalIsNoEvent(t *testing.T) {
	b, c := newBroker(t), newConnection(t)
	s := subscribe(t, b)
	b.Applied(c, hub.Op{Kind: hub.OpAttach})
	if batch := s.Take(nil, 10, 1<<20); !batch.IsEmpty() {
		t.Errorf("%v", batch.Events)
	}
}

func TestASubscriptionEndsWithTheFirstErrorAndGivesNothingMore(t *testing.T) {
	b, c := newBroker(t), newConnection(t)
	s := subscribe(t, b)
	b.Applied(c, emitted)
	if s.Err() != nil {
		t.Errorf("it is over: %v", s.Err())
	}
	<-s.News()
	first, second := errors.New("first"), errors.New("second")
	s.End(first)
	s.End(second)
	<-s.Over()
	if batch := s.Take(nil, 10, 1<<20); !batch.IsEmpty() || !errors.Is(s.Err(), first) {
		t.Errorf("%v, and %v", batch.Events, s.Err())
	}
	if b.Emitted(c, emitted) {
		t.Error("an event is queued for it")
	}
	b.Unsubscribe(s)
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.Shutdown(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// Only a batch that the subscriber has counts as given.
func TestABatchThatWasLostDoesNotCountAsGiven(t *testing.T) {
	r := prometheus.NewRegistry()
	b, c := newBroker(t, func(c *Config) { c.Metrics = r }), newConnection(t)
	s := subscribe(t, b)
	for _, isGiven := range []bool{false, true} {
		b.Applied(c, emitted)
		s.Release(s.Take(nil, 10, 1<<20), isGiven)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	given := 0.0
	for _, f := range families {
		if f.GetName() == "connhub_events_given_total" {
			for _, m := range f.GetMetric() {
				given += m.GetCounter().GetValue()
			}
		}
	}
	if given != 1 {
		t.Errorf("%v events are given, want 1", given)
	}
}

func TestNewNamesAllThatIsWrong(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{
		"Hub is", "Limits.Messages is 0", "Limits.Bytes is 0", "Limits.Standing is 0",
		"MaxSubscribers is 0",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	c := Config{Hub: "h", Limits: Limits{1, minBytes, 1}, MaxSubscribers: 1}
	c.Metrics = prometheus.NewRegistry()
	if _, err := New(c); err != nil {
		t.Error(err)
	}
	if _, err := New(c); err == nil {
		t.Error("two brokers share the metrics of one registry")
	}
}

func BenchmarkAppliedWithoutSubscribers(b *testing.B) {
	broker, c := newBroker(b), newConnection(b)
	b.ReportAllocs()
	for b.Loop() {
		broker.Applied(c, emitted)
	}
}

// BenchmarkEmit is an event for subscriptions that take batches, in the goroutine that emits.
func BenchmarkEmit(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			broker, c := newBroker(b), newConnection(b)
			var all []*Subscription
			for range n {
				all = append(all, subscribe(b, broker))
			}
			var spare []*Event
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				broker.Emitted(c, emitted)
				if i%256 < 255 {
					continue
				}
				for _, s := range all {
					batch := s.Take(spare, 256, 1<<20)
					s.Release(batch, true)
					spare = batch.Events
				}
			}
		})
	}
}

// BenchmarkEmitParallel is an event for subscriptions that take batches beside it.
func BenchmarkEmitParallel(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			broker := newBroker(b)
			for range n {
				s := subscribe(b, broker)
				defer s.End(hub.ErrShuttingDown)
				go takeAll(s)
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				c := newConnection(b)
				for p.Next() {
					broker.Emitted(c, emitted)
				}
			})
		})
	}
}

// takeAll takes batches until the subscription is over.
func takeAll(s *Subscription) {
	var spare []*Event
	for {
		batch := s.Take(spare, 256, 1<<20)
		if batch.IsEmpty() {
			select {
			case <-s.News():
				continue
			case <-s.Over():
				return
			}
		}
		s.Release(batch, true)
		spare = batch.Events
	}
}
