package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

func TestASubscriberSeesAConnectionFromItsFirstLinkToItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		s := b.subscribe(t, &eventsv1.Subscription{})
		labels := map[string]string{"tenant": "acme"}
		began := time.Now()
		c := b.attach(t, hub.Admission{
			User: "ann", Protocol: numbered{}, RemoteAddress: "10.0.0.1:5",
			Claims: &hub.Claims{Labels: labels},
		})
		like := func(ordinal int, e *eventsv1.Event) *eventsv1.Event {
			e.Id, e.Ordinal = fmt.Sprintf("%s/%d", c.ID(), ordinal), int64(ordinal)
			e.Namespace, e.Connection, e.User = "default", string(c.ID()), "ann"
			e.Labels, e.Protocol = labels, "named"
			return e
		}
		said := func(ordinal int, m *eventsv1.Message) *eventsv1.Event {
			return like(ordinal, &eventsv1.Event{Kind: &eventsv1.Event_Message{Message: m}})
		}
		raw := []byte("\x00\xff")
		connected := s.next(t, 1)[0]
		if at := connected.GetTime().AsTime(); !at.Equal(began) {
			t.Errorf("it began at %v, not %v", at, began)
		}
		got := connected.GetConnected().GetRemoteAddress()
		if got != "10.0.0.1:5" || connected.GetId() != string(c.ID())+"/1" {
			t.Errorf("connected: %v", connected)
		}
		c.emit(t, "text", hub.Text, "hé")
		c.emit(t, "json", hub.JSON, `{"a": 1.0}`)
		s.want(t,
			said(2, &eventsv1.Message{
				Name: "text", Payload: &eventsv1.Message_Text{Text: "hé"},
			}),
			said(3, &eventsv1.Message{
				Name: "json", Payload: &eventsv1.Message_Json{Json: `{"a": 1.0}`},
			}))

		// Another link is no event.
		token := string(c.read)
		c.Unbind(&c.wire, cause.Lost.CloseStatus())
		back, err := b.hub.Resume(t.Context(), hub.DefaultNamespace, string(c.ID()), token)
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Bind(&wire{of: c.Connection}); err != nil {
			t.Fatal(err)
		}
		c.emit(t, "binary", hub.Binary, "\x00\xff")
		c.emit(t, "protobuf", hub.Protobuf, "\x00\xff")
		c.Close(4000, "enough")
		s.want(t,
			said(4, &eventsv1.Message{
				Name: "binary", Payload: &eventsv1.Message_Binary{Binary: raw},
			}),
			said(5, &eventsv1.Message{
				Name: "protobuf", Payload: &eventsv1.Message_Protobuf{Protobuf: raw},
			}),
			like(6, &eventsv1.Event{
				Kind: &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
					Cause: eventsv1.DisconnectCause_DISCONNECT_CAUSE_BACKEND,
					Code:  4000, Reason: "enough",
				}},
			}))
	})
}

func TestAConnectionThatNeverHadALinkIsNoEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		s := b.subscribe(t, &eventsv1.Subscription{})
		never, err := b.hub.Attach(t.Context(), hub.Admission{
			Namespace: hub.DefaultNamespace, Protocol: named{},
		})
		if err != nil {
			t.Fatal(err)
		}
		never.Close(cause.Handshake.CloseStatus())
		c := b.attach(t, hub.Admission{})
		if got := s.next(t, 1)[0].GetConnection(); got != string(c.ID()) {
			t.Errorf("an event of %s", got)
		}
	})
}

// words says events in short.
func words(events []*eventsv1.Event) (all []string) {
	for _, e := range events {
		switch k := e.GetKind().(type) {
		case *eventsv1.Event_Connected:
			all = append(all, e.GetNamespace()+" connected")
		case *eventsv1.Event_Message:
			all = append(all, e.GetNamespace()+" "+k.Message.GetName())
		case *eventsv1.Event_Disconnected:
			all = append(all, e.GetNamespace()+" disconnected")
		case *eventsv1.Event_Gap:
			all = append(all, fmt.Sprintf("%s gap of %d", e.GetNamespace(), k.Gap.GetCount()))
		}
	}
	return all
}

func TestASubscriptionSelectsByNamespaceKindAndName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		type subscription = eventsv1.Subscription
		type kinds = []eventsv1.EventKind
		tests := []struct {
			of   *subscription
			want []string
		}{
			{
				&subscription{},
				[]string{"default connected", "default a", "default b", "default disconnected"},
			},
			{
				&subscription{Namespaces: []string{"other"}},
				[]string{"other connected", "other a", "other b", "other disconnected"},
			},
			{
				&subscription{
					Namespaces: []string{"other", "default"}, Kinds: kinds{kindConnected},
				},
				[]string{"default connected", "other connected"},
			},
			{
				&subscription{MessageNames: []string{"b", "c"}},
				[]string{"default connected", "default b", "default disconnected"},
			},
			{
				&subscription{MessageNames: []string{"a"}, Kinds: kinds{kindMessage}},
				[]string{"default a"},
			},
			{&subscription{Kinds: kinds{kindDisconnected}}, []string{"default disconnected"}},
		}
		streams := make([]*stream, len(tests))
		for i, tc := range tests {
			streams[i] = b.subscribe(t, tc.of)
		}
		for _, namespace := range []string{"default", "other"} {
			c := b.attach(t, hub.Admission{Namespace: namespace})
			c.emit(t, "a", hub.Text, "")
			c.emit(t, "b", hub.Text, "")
			c.Close(1000, "")
		}
		if err := b.broker.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, tc := range tests {
			events, _ := streams[i].end()
			if got := words(events); !slices.Equal(got, tc.want) {
				t.Errorf("%v: %q, want %q", tc.of, got, tc.want)
			}
		}
	})
}

// holdError fails unless err has this code, and the reason of the API.
func holdError(t *testing.T, err error, code codes.Code, reason string) (field string) {
	t.Helper()
	st := status.Convert(err)
	got := ""
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			got = d.GetReason()
		case *errdetails.BadRequest:
			field = d.GetFieldViolations()[0].GetField()
		}
	}
	if st.Code() != code || got != reason {
		t.Errorf("%v (%s), want %v (%s)", err, got, code, reason)
	}
	return field
}

func TestEveryRuleOfASubscriptionIsHeld(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		type subscription = eventsv1.Subscription
		type kinds = []eventsv1.EventKind
		many := slices.Repeat([]string{"a"}, 101)
		long := strings.Repeat("a", 1025)
		for _, tc := range []struct {
			of            *subscription
			reason, field string
		}{
			{nil, "INVALID_FIELD", "subscription"},
			{
				&subscription{Namespaces: []string{"a", ""}},
				"INVALID_FIELD", "subscription.namespaces[1]",
			},
			{&subscription{Namespaces: many}, "LIMIT_EXCEEDED", "subscription.namespaces"},
			{&subscription{Kinds: kinds{0}}, "INVALID_FIELD", "subscription.kinds[0]"},
			{&subscription{Kinds: kinds{9}}, "INVALID_FIELD", "subscription.kinds[0]"},
			{&subscription{MessageNames: many}, "LIMIT_EXCEEDED", "subscription.message_names"},
			{
				&subscription{MessageNames: []string{"a\n"}},
				"INVALID_FIELD", "subscription.message_names[0]",
			},
			{
				&subscription{MessageNames: []string{long}},
				"LIMIT_EXCEEDED", "subscription.message_names[0]",
			},
		} {
			_, err := b.open(t, tc.of).end()
			if field := holdError(t, err, codes.InvalidArgument, tc.reason); field != tc.field {
				t.Errorf("%v: the field is %q, want %q", tc.of, field, tc.field)
			}
		}
		full := b.subscribe(t, &subscription{
			Namespaces: many[:100], MessageNames: slices.Repeat([]string{long[1:]}, 100),
			Kinds: kinds{kindMessage},
		})
		second := &eventsv1.SubscribeRequest{Subscription: &subscription{}}
		if err := full.Send(second); err != nil {
			t.Fatal(err)
		}
		_, err := full.end()
		field := holdError(t, err, codes.InvalidArgument, "INVALID_FIELD")
		if field != "subscription" {
			t.Errorf("a second subscription: the field is %q", field)
		}
		again := b.subscribe(t, &subscription{})
		if err := again.Send(&eventsv1.SubscribeRequest{}); err != nil {
			t.Fatal(err)
		}
		_, err = again.end()
		holdError(t, err, codes.InvalidArgument, "INVALID_FIELD")
		b.wantSubscribers(t, 0)
	})
}

func (b *bed) wantSubscribers(t *testing.T, want int) {
	t.Helper()
	synctest.Wait()
	if got := b.gathered(t)["connhub_event_subscribers"]; got != float64(want) {
		t.Errorf("%v subscribers, want %d", got, want)
	}
}

func TestAStreamGoesOnWhenTheBackendClosesItsSide(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		s := b.subscribe(t, &eventsv1.Subscription{})
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.attach(t, hub.Admission{})
		if got := words(s.next(t, 1)); got[0] != "default connected" {
			t.Errorf("%q", got)
		}
	})
}

func TestABackendThatAsksForNothingGetsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, err := eventsv1.NewEventServiceClient(newBed(t).conn).Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err == nil || err.Error() != "EOF" {
			t.Errorf("%v, %v", r, err)
		}
	})
}

func TestSubscribersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, func(c *events.Config) { c.MaxSubscribers = 2 })
		for range 2 {
			b.subscribe(t, &eventsv1.Subscription{})
		}
		_, err := b.open(t, &eventsv1.Subscription{}).end()
		holdError(t, err, codes.ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
		_ = b.conn.Close() // they go
		b.wantSubscribers(t, 0)
		b.conn = b.connect(t)
		b.subscribe(t, &eventsv1.Subscription{})
		b.wantSubscribers(t, 1)
	})
}

func TestAStreamThatNeverSubscribesDoesNotHoldUpLeaving(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t)
		silent, err := eventsv1.NewEventServiceClient(b.conn).Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		subscribed := b.subscribe(t, &eventsv1.Subscription{})
		synctest.Wait()
		start := time.Now()
		b.server.Leave()
		if _, err := silent.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("%v, want SHUTTING_DOWN", err)
		}
		b.attach(t, hub.Admission{User: "ann"})
		subscribed.next(t, 1) // a subscription goes on until the broker ends it
		if err := b.broker.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("down after %v", took)
		}
	})
}

// lateContext is a context whose end a subscription does not notice by itself.
type lateContext struct{ context.Context }

// AfterFunc takes the place of context.AfterFunc.
func (lateContext) AfterFunc(func()) (stop func() bool) { return func() bool { return true } }

// Value hides the context inside, at which context.AfterFunc would ask otherwise.
func (lateContext) Value(any) any { return nil }

// TestABackendThatLeavesIsNoFaultOfTheHub proves that a cancelled stream ends with the error of its
// context, also if Recv is the first to notice. The server logs any other error.
func TestABackendThatLeavesIsNoFaultOfTheHub(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBareBed(t)
		for _, request := range []*eventsv1.SubscribeRequest{
			nil, {Subscription: &eventsv1.Subscription{}},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			p := &pipe{
				ctx: lateContext{ctx}, requests: make(chan *eventsv1.SubscribeRequest, 1),
				responses: make(chan *eventsv1.SubscribeResponse),
			}
			ended := make(chan error, 1)
			go func() { ended <- b.service.Subscribe(p) }()
			if request != nil {
				p.requests <- request
				<-p.responses
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("after the request %v: got %v, want context.Canceled", request, err)
			}
		}
	})
}
