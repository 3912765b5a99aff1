package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// The kinds of the API, in short.
const (
	kindConnected    = eventsv1.EventKind_EVENT_KIND_CONNECTED
	kindMessage      = eventsv1.EventKind_EVENT_KIND_MESSAGE
	kindDisconnected = eventsv1.EventKind_EVENT_KIND_DISCONNECTED
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a hub with a broker and the service.
type bed struct {
	hub     *hub.Hub
	broker  *events.Broker
	service *Service
	server  *control.Server
	metrics *prometheus.Registry // of the broker
	calls   *prometheus.Registry // of the server of the API
	dial    func(context.Context, string) (net.Conn, error)
	conn    *grpc.ClientConn
}

func newBareBed(t testing.TB, change ...func(*events.Config)) *bed {
	t.Helper()
	b := &bed{metrics: prometheus.NewRegistry(), calls: prometheus.NewRegistry()}
	hc := hub.DefaultConfig()
	hc.ID = hub.NewID()
	c := events.DefaultConfig()
	c.Hub, c.Metrics = hc.ID, b.metrics
	for _, f := range change {
		f(&c)
	}
	var err error
	if b.broker, err = events.New(c); err != nil {
		t.Fatal(err)
	}
	b.service = New(b.broker, accountOf)
	hc.Observers = []hub.Observer{
		{Ops: events.Ops(), Applied: b.broker.Applied, Emitted: b.broker.Emitted},
	}
	if b.hub, err = hub.New(hc); err != nil {
		t.Fatal(err)
	}
	return b
}

func accountOf(ctx context.Context) events.Account { return control.AccountOf(ctx) }

// newBed returns a bed whose events are served by the server of the API, over memory.
func newBed(t testing.TB, change ...func(*events.Config)) *bed {
	t.Helper()
	return newBedOf(t, control.DefaultConfig().CallBytes, change...)
}

// newBedOf is newBed with so many bytes for calls. They must all be given back when the test ends.
func newBedOf(t testing.TB, callBytes int64, change ...func(*events.Config)) *bed {
	t.Helper()
	b := newBareBed(t, change...)
	var err error
	if b.server, err = control.New(control.Config{
		Hub: b.hub, Insecure: true, Services: []control.Service{b.service.Register},
		CallBytes: callBytes, Metrics: b.calls,
	}); err != nil {
		t.Fatal(err)
	}
	listener := testkit.ListenCable(1 << 20)
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(listener) }()
	b.dial = func(ctx context.Context, _ string) (net.Conn, error) {
		return listener.DialContext(ctx)
	}
	b.conn = b.connect(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = b.conn.Close() // the server would wait for a stream that is not read
		for _, err := range []error{
			b.hub.Shutdown(ctx), b.broker.Shutdown(ctx), b.server.Shutdown(ctx), <-served,
			b.hub.CheckAtRest(),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		// A write to a backend may end a moment after its stream.
		testkit.Eventually(t, "calls that are over hold nothing", func() bool {
			return b.heldBytes(t) == 0
		})
	})
	return b
}

// heldBytes returns the bytes that the calls of all backends hold.
func (b *bed) heldBytes(t testing.TB) int64 {
	t.Helper()
	return int64(gathered(t, b.calls)["connhub_grpc_call_bytes"])
}

// connect returns a connection of its own: streams of a connection share its flow control.
func (b *bed) connect(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(b.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// stream is a subscriber.
type stream struct {
	grpc.BidiStreamingClient[eventsv1.SubscribeRequest, eventsv1.SubscribeResponse]

	hub     hub.ID
	leaving bool // it was told so
}

// open opens a stream and says the first request.
func (b *bed) open(t testing.TB, s *eventsv1.Subscription) *stream {
	t.Helper()
	client, err := eventsv1.NewEventServiceClient(b.conn).Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// EOF: the stream is over already, and Recv returns its status.
	err = client.Send(&eventsv1.SubscribeRequest{Subscription: s})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return &stream{BidiStreamingClient: client, hub: b.hub.ID()}
}

// subscribe opens a stream and waits until the subscription is in force.
func (b *bed) subscribe(t testing.TB, s *eventsv1.Subscription) *stream {
	t.Helper()
	client := b.open(t, s)
	r, err := client.Recv()
	if err != nil || r.GetSubscribed().GetHub() != string(b.hub.ID()) {
		t.Fatalf("the first response: %v, %v", r, err)
	}
	return client
}

// next returns the next n events.
func (s *stream) next(t testing.TB, n int) (events []*eventsv1.Event) {
	t.Helper()
	for len(events) < n {
		r, err := s.Recv()
		if err != nil {
			t.Fatalf("after %v: %v", events, err)
		}
		events = append(events, r.GetEvents()...)
		s.leaving = s.leaving || r.GetGoingAway() != nil
	}
	if len(events) > n {
		t.Fatalf("more than %d events: %v", n, events)
	}
	return events
}

// end returns the events until the end of the stream, and how it ended.
func (s *stream) end() (events []*eventsv1.Event, err error) {
	for {
		r, err := s.Recv()
		if err != nil {
			return events, err
		}
		events = append(events, r.GetEvents()...)
		s.leaving = s.leaving || r.GetGoingAway() != nil
	}
}

// want fails unless these events, without their times, are the next, and name the hub where they
// happened.
func (s *stream) want(t testing.TB, want ...*eventsv1.Event) {
	t.Helper()
	for _, e := range want {
		e.Hub = string(s.hub)
	}
	got, noTime := s.next(t, len(want)), protocmp.IgnoreFields(&eventsv1.Event{}, "time")
	if diff := cmp.Diff(want, got, protocmp.Transform(), noTime); diff != "" {
		t.Error(diff)
	}
}

// named is a protocol without acks.
type named struct{}

func (named) Name() string                              { return "named" }
func (named) RouteKey(r hub.Route) hub.Route            { return r }
func (named) Encode(m *hub.Message, _ hub.Route) []byte { return m.Payload }

func (named) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte { return dst }
func (named) AppendReply(dst []byte, _ hub.PayloadKind, message []byte) []byte {
	return append(dst, message...)
}

// numbered is a protocol whose clients can resume; their token is the whole greeting.
type numbered struct{ named }

func (numbered) AppendPrefix(dst []byte, sequence uint64, _ []byte) []byte {
	return binary.AppendUvarint(dst, sequence)
}

func (numbered) AppendGreeting(dst []byte, _ hub.Info, token string) []byte {
	return append(dst, token...)
}

var _ hub.Numbered = numbered{}

// client is a connection with a link into memory.
type client struct {
	*hub.Connection
	wire
}

type wire struct {
	of    *hub.Connection
	batch hub.Batch
	read  []byte
}

func (*wire) Prefetch(int) {}
func (*wire) Stirs() bool  { return false }

func (w *wire) Flush() {
	for w.of.Take(w, &w.batch, 1<<16) {
		w.read = append(w.read, w.batch.Bytes...)
		w.of.Written(w, w.batch.Units(len(w.batch.Bytes)))
	}
}

func (w *wire) Close(how cause.CloseStatus) { w.of.Unbind(w, how) }

func (b *bed) attach(t testing.TB, a hub.Admission) *client {
	t.Helper()
	if a.Namespace == "" {
		a.Namespace = hub.DefaultNamespace
	}
	if a.Protocol == nil {
		a.Protocol = named{}
	}
	connection, err := b.hub.Attach(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{Connection: connection, wire: wire{of: connection}}
	if err := connection.Bind(&c.wire); err != nil {
		t.Fatal(err)
	}
	return c
}

// Close ends the connection as a backend does.
func (c *client) Close(code uint16, reason string) {
	c.Connection.Close(cause.CloseStatus{Cause: cause.Backend, Code: code, Reason: reason})
}

func (c *client) emit(t testing.TB, name string, kind hub.PayloadKind, payload string) {
	t.Helper()
	event := &hub.ClientEvent{Name: name, Kind: kind, Payload: []byte(payload)}
	if _, err := c.Emit(event); err != nil {
		t.Fatal(err)
	}
}

// inBubble runs a test with time of its own.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
