package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// stuff is a payload. A stream that is not read takes only a few of it.
var stuff = strings.Repeat("x", 32<<10)

func TestASlowSubscriberMissesMessagesAndNobodyElseDoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, func(c *events.Config) { c.Limits.Messages = 5 })
		slow := b.subscribe(t, &eventsv1.Subscription{})
		quick := b.subscribe(t, &eventsv1.Subscription{})
		c := b.attach(t, hub.Admission{})
		const sent = 40
		quick.next(t, 1)
		for range sent {
			c.emit(t, "m", hub.Text, stuff)
			if got := words(quick.next(t, 1)); got[0] != "default m" {
				t.Fatalf("the quick one gets %q", got)
			}
			synctest.Wait()
		}
		c.Close(1000, "")
		quick.next(t, 1)

		// The events that the stream had taken, 5 that waited, the gap, and the end.
		ended := make(chan error)
		go func() { ended <- b.broker.Shutdown(t.Context()) }()
		events, err := slow.end()
		holdError(t, err, codes.Unavailable, "SHUTTING_DOWN")
		if err := <-ended; err != nil {
			t.Error(err)
		}
		kinds := words(events)
		n := len(kinds)
		gap := events[n-2]
		if kinds[0] != "default connected" || kinds[n-1] != "default disconnected" ||
			gap.GetGap().GetCount() == 0 {
			t.Fatalf("the slow one gets %q", kinds)
		}
		for i, e := range events[:n-2] {
			if e.GetOrdinal() != int64(i+1) {
				t.Errorf("event %d has the ordinal %d", i, e.GetOrdinal())
			}
		}
		missing := gap.GetGap().GetCount()
		if got := int64(n-3) + missing; got != sent || gap.GetOrdinal() != sent+1 ||
			gap.GetId() != fmt.Sprintf("%s/%d", c.ID(), sent+1) {
			t.Errorf("%d messages and a gap of %d: %v", n-3, missing, gap)
		}
		if gap.GetGap().GetReason() != eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW {
			t.Errorf("the gap is there because of %v", gap.GetGap().GetReason())
		}
		want := map[string]float64{
			"connhub_event_subscribers":                    0,
			"connhub_events_dropped_total subscriber_slow": float64(missing),
			"connhub_events_given_total connected":         2,
			"connhub_events_given_total disconnected":      2,
			"connhub_events_given_total message":           float64(2*sent - missing),
		}
		if diff := cmp.Diff(want, b.gathered(t)); diff != "" {
			t.Error(diff)
		}
	})
}

// gathered returns the metrics of the broker.
func (b *bed) gathered(t testing.TB) map[string]float64 {
	t.Helper()
	return gathered(t, b.metrics)
}

// gathered returns the metrics of a registry, by name and labels.
func gathered(t testing.TB, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			have[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return have
}

// An emitted event is queued if a subscriber gets it, and only then. A client's ack reports Emit's
// result.
func TestEmitTellsWhetherASubscriberGetsTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		c := b.attach(t, hub.Admission{})
		emits := func(what string, want bool) {
			t.Helper()
			got, err := c.Emit(&hub.ClientEvent{Name: "clicked", Kind: hub.Text})
			if got != want || err != nil {
				t.Errorf("%s: queued %t, %v", what, got, err)
			}
		}
		emits("nobody subscribes", false)
		for _, s := range []*eventsv1.Subscription{
			{Namespaces: []string{"other"}},
			{MessageNames: []string{"typed"}},
			{Kinds: []eventsv1.EventKind{kindConnected, kindDisconnected}},
		} {
			b.subscribe(t, s)
		}
		emits("all subscribe to something else", false)
		s := b.subscribe(t, &eventsv1.Subscription{MessageNames: []string{"typed", "clicked"}})
		emits("one subscribes", true)
		if got := words(s.next(t, 1)); got[0] != "default clicked" {
			t.Errorf("it gets %q", got)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		emits("its stream is still open", true)
		s.next(t, 1)
		if err := b.hub.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Emit(&hub.ClientEvent{Name: "clicked"}); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// A subscriber without room does not count; a single subscriber with room is enough.
func TestEmitDoesNotCountASubscriberWithoutRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, func(c *events.Config) { c.Limits.Messages = 5 })
		slow := b.subscribe(t, &eventsv1.Subscription{})
		c := b.attach(t, hub.Admission{})
		queued, last := 0, true
		for range 40 {
			var err error
			last, err = c.Emit(&hub.ClientEvent{Name: "m", Kind: hub.Text, Payload: []byte(stuff)})
			if err != nil {
				t.Fatal(err)
			}
			if last {
				queued++
			}
			synctest.Wait()
		}
		if last || queued == 0 {
			t.Errorf("%d are queued for a subscriber that reads nothing, the last: %t",
				queued, last)
		}
		quick := b.subscribe(t, &eventsv1.Subscription{})
		if one, err := c.Emit(&hub.ClientEvent{Name: "m", Kind: hub.Text}); !one || err != nil {
			t.Errorf("with a subscriber that reads: %t, %v", one, err)
		}
		quick.next(t, 1)
		ended := make(chan error)
		go func() { ended <- b.broker.Shutdown(t.Context()) }()
		events, _ := slow.end()
		got := 0
		for _, e := range events {
			if e.GetMessage() != nil {
				got++
			}
		}
		if got != queued {
			t.Errorf("%d were queued, the subscriber got %d", queued, got)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if one, err := c.Emit(&hub.ClientEvent{Name: "m", Kind: hub.Text}); one || err != nil {
			t.Errorf("when all streams have ended: %t, %v", one, err)
		}
	})
}

func TestASubscriberThatIsTooFarBehindIsEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, func(c *events.Config) { c.Limits.Standing = 3 })
		slow := b.subscribe(t, &eventsv1.Subscription{})
		quick := b.subscribe(t, &eventsv1.Subscription{
			Kinds: []eventsv1.EventKind{kindConnected},
		})
		c := b.attach(t, hub.Admission{})
		quick.next(t, 1)
		for range 30 { // its stream takes no more
			c.emit(t, "m", hub.Text, stuff)
		}
		synctest.Wait()
		c.emit(t, "m", hub.Text, stuff) // that it waits to write, now
		synctest.Wait()
		for range 3 {
			b.attach(t, hub.Admission{})
			quick.next(t, 1)
		}
		b.wantSubscribers(t, 2)
		b.attach(t, hub.Admission{})
		b.wantSubscribers(t, 1) // though it does not read
		quick.next(t, 1)
		_, err := slow.end()
		holdError(t, err, codes.ResourceExhausted, "SUBSCRIBER_SLOW")
	})
}

func TestAHubThatLeavesGivesEverythingFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		s := b.subscribe(t, &eventsv1.Subscription{})
		b.attach(t, hub.Admission{})
		s.next(t, 1)
		b.server.Leave()
		b.broker.GoAway()
		synctest.Wait()
		select {
		case <-b.server.Quiet(): // a subscriber is no call that is waited for
		default:
			t.Error("the server is not quiet")
		}
		if r, err := s.Recv(); err != nil || r.GetGoingAway() == nil {
			t.Fatalf("%v, %v, want going_away", r, err)
		}
		_, err := b.open(t, &eventsv1.Subscription{}).end()
		holdError(t, err, codes.Unavailable, "SHUTTING_DOWN")

		if err := b.hub.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := s.next(t, 1)[0].GetDisconnected().GetCause()
		if got != eventsv1.DisconnectCause_DISCONNECT_CAUSE_SHUTDOWN {
			t.Errorf("it ended because of %v", got)
		}
		if err := b.broker.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		late, err := s.end()
		if len(late) > 0 {
			t.Errorf("then came %v", late)
		}
		holdError(t, err, codes.Unavailable, "SHUTTING_DOWN")
		_, err = b.broker.Subscribe(events.Filter{}, nil)
		if !errors.Is(err, hub.ErrShuttingDown) {
			t.Errorf("a late subscriber: %v", err)
		}
	})
}

func TestASubscriberThatDoesNotReadHoldsShutdownUpNoLongerThanItMay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		s := b.subscribe(t, &eventsv1.Subscription{})
		c := b.attach(t, hub.Admission{})
		for range 30 {
			c.emit(t, "m", hub.Text, stuff)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := b.broker.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		b.wantSubscribers(t, 0)
		_, err := s.end()
		holdError(t, err, codes.Unavailable, "SHUTTING_DOWN")
	})
}

func TestASubscriberThatGoesLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		ctx, cancel := context.WithCancel(t.Context())
		client, err := eventsv1.NewEventServiceClient(b.conn).Subscribe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		request := &eventsv1.SubscribeRequest{Subscription: &eventsv1.Subscription{}}
		if err := client.Send(request); err != nil {
			t.Fatal(err)
		}
		b.wantSubscribers(t, 1)
		cancel()
		b.wantSubscribers(t, 0)
		if err := b.broker.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestEveryCauseOfTheHubHasItsOwnInTheAPI(t *testing.T) {
	seen := map[eventsv1.DisconnectCause]bool{}
	for _, c := range cause.All() {
		if seen[causes[c]] || causes[c] == eventsv1.DisconnectCause_DISCONNECT_CAUSE_UNSPECIFIED {
			t.Errorf("%v is %v", c, causes[c])
		}
		seen[causes[c]] = true
	}
	if len(seen) != len(eventsv1.DisconnectCause_name)-1 {
		t.Errorf("the API has %d causes, the hub %d",
			len(eventsv1.DisconnectCause_name)-1, len(seen))
	}
}
