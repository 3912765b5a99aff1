package control

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/auth/authtest"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backendSecret = "backend-backend-backend-backend-backend"
	peerSecret    = "peer-peer-peer-peer-peer-peer-peer-peer"
)

// fixture is a whole server over memory, with a real hub and real credentials.
type fixture struct {
	hub      *hub.Hub
	server   *Server
	tokens   *auth.TokenKey
	metrics  *prometheus.Registry
	log      *testkit.LockedBuffer
	listener *testkit.CableListener
	// meshMetrics are those of its mesh; empty without one.
	meshMetrics *prometheus.Registry

	conn        *grpc.ClientConn // a backend's
	delivery    controlv1.DeliveryServiceClient
	connections controlv1.ConnectionServiceClient
	groups      controlv1.GroupServiceClient
	access      controlv1.AccessServiceClient
	hubs        controlv1.HubServiceClient
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{
		metrics: prometheus.NewRegistry(), log: &testkit.LockedBuffer{},
		meshMetrics: prometheus.NewRegistry(),
		listener:    testkit.ListenCable(1 << 20),
	}
	f.hub = newHub(t)
	var err error
	if f.tokens, err = auth.NewTokenKey([]byte(strings.Repeat("k", auth.MinKeyBytes))); err != nil {
		t.Fatal(err)
	}
	config := Config{
		Hub:       f.hub,
		Secrets:   newSecrets(t),
		Tokens:    f.tokens,
		PublicURL: &url.URL{Scheme: "https", Host: "hub.example", Path: "/edge/"},
		Logger:    slog.New(slog.NewJSONHandler(f.log, nil)),
		Metrics:   f.metrics,
		CallBytes: port.DefaultCallBytes,
	}
	for _, c := range change {
		c(&config)
	}
	if f.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	f.serve(t)
	f.conn = f.dial(t, "Bearer "+backendSecret)
	f.delivery = controlv1.NewDeliveryServiceClient(f.conn)
	f.connections = controlv1.NewConnectionServiceClient(f.conn)
	f.groups = controlv1.NewGroupServiceClient(f.conn)
	f.access = controlv1.NewAccessServiceClient(f.conn)
	f.hubs = controlv1.NewHubServiceClient(f.conn)
	return f
}

// newHub returns a hub that is checked for contradictions when the test ends.
func newHub(t testing.TB, change ...func(*hub.Config)) *hub.Hub {
	t.Helper()
	config := hub.DefaultConfig()
	config.ID, config.Name, config.Version = hub.NewID(), "pod-1", "v1.2.3"
	config.Outbox.Messages = 3
	for _, f := range change {
		f(&config)
	}
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.CheckAtRest(); err != nil {
			t.Error(err)
		}
		// Connections that wait for their client have timers.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

func newSecrets(t testing.TB) *auth.Secrets {
	t.Helper()
	return authtest.NewSecrets(t, map[auth.Role]string{
		auth.RoleBackend: backendSecret, auth.RolePeer: peerSecret,
	})
}

func (f *fixture) serve(t testing.TB) {
	t.Helper()
	f.serveOn(t, f.listener)
}

func (f *fixture) serveOn(t testing.TB, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		testkit.CheckLog(t, f.log.String())
		if held := f.metric(t, "connhub_grpc_call_bytes"); held != 0 {
			t.Errorf("calls that are over hold %d bytes", held)
		}
	})
}

// dial returns a connection that sends this authorization with every call; empty: none.
func (f *fixture) dial(t testing.TB, authorization string) *grpc.ClientConn {
	t.Helper()
	with := func(ctx context.Context) context.Context {
		if authorization == "" {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(f.dialer()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any,
			cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			return invoke(with(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc,
			cc *grpc.ClientConn, method string, stream grpc.Streamer,
			opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return stream(with(ctx), desc, cc, method, opts...)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (f *fixture) dialer() func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return f.listener.DialContext(ctx)
	}
}

// frameEnd ends a frame: a wire has no empty frames.
const frameEnd = '|'

// wireProtocol shows the payload alone, and remembers the messages that it encoded.
type wireProtocol struct {
	mu       sync.Mutex
	messages []*hub.Message
	routes   []hub.Route
}

func (p *wireProtocol) Name() string                   { return "wire" }
func (p *wireProtocol) RouteKey(r hub.Route) hub.Route { return r }
func (p *wireProtocol) Encode(m *hub.Message, r hub.Route) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages, p.routes = append(p.messages, m), append(p.routes, r)
	return append(slices.Clone(m.Payload), frameEnd)
}

func (p *wireProtocol) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte { return dst }
func (p *wireProtocol) AppendReply(dst []byte, _ hub.PayloadKind, message []byte) []byte {
	return append(append(dst, message...), frameEnd)
}

func (p *wireProtocol) last(t testing.TB) (*hub.Message, hub.Route) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.messages) == 0 {
		t.Fatal("nothing was encoded")
	}
	return p.messages[len(p.messages)-1], p.routes[len(p.routes)-1]
}

// ackedProtocol is a protocol whose clients confirm.
type ackedProtocol struct{ wireProtocol }

func (p *ackedProtocol) AppendPrefix(dst []byte, sequence uint64, _ []byte) []byte {
	return binary.AppendUvarint(dst, sequence)
}

var _ hub.Numbered = (*ackedProtocol)(nil)

// client is a connection with a link into memory, which stalls when told to.
type client struct {
	*hub.Connection

	// gate holds each write until it gives a token; nil: writes take no time.
	gate <-chan struct{}
	// turn is the lock of batch, which a write holds: a bubble waits for no mutex.
	turn  chan struct{}
	batch hub.Batch

	mu      sync.Mutex
	stalled bool
	wire    strings.Builder
	writes  int
	closed  []cause.CloseStatus
}

func (f *fixture) attach(t testing.TB, p hub.Protocol, user string, groups ...string) *client {
	t.Helper()
	return f.attachAs(t, p, hub.Admission{User: user, Groups: groups})
}

// attachAs fills in the rest of an admission.
func (f *fixture) attachAs(t testing.TB, p hub.Protocol, a hub.Admission) *client {
	t.Helper()
	a.Namespace, a.Protocol, a.RemoteAddress = hub.DefaultNamespace, p, "127.0.0.1:1234"
	connection, err := f.hub.Attach(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return &client{Connection: connection, turn: make(chan struct{}, 1)}
}

func (f *fixture) connect(t testing.TB, p hub.Protocol, user string, groups ...string) *client {
	t.Helper()
	c := f.attach(t, p, user, groups...)
	if err := c.Bind(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (*client) Prefetch(int) {}
func (*client) Stirs() bool  { return false }

func (c *client) Flush() {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	for !c.isStalled() && c.Take(c, &c.batch, 1<<16) {
		if c.gate != nil {
			<-c.gate
		}
		c.writeBatch()
		c.Written(c, c.batch.Units(len(c.batch.Bytes)))
	}
}

func (c *client) writeBatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire.Write(c.batch.Bytes)
	c.writes++
}

func (c *client) isStalled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stalled
}

func (c *client) Close(how cause.CloseStatus) {
	c.mu.Lock()
	c.closed = append(c.closed, how)
	first := len(c.closed) == 1
	c.mu.Unlock()
	if first {
		c.Unbind(c, how)
	}
}

func (c *client) stall(on bool) {
	c.mu.Lock()
	c.stalled = on
	c.mu.Unlock()
	c.Flush()
}

func (c *client) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

func (c *client) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wire.String()
}

func (c *client) goodbye(t testing.TB) cause.CloseStatus {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.closed) != 1 {
		t.Fatalf("closed %d times", len(c.closed))
	}
	return c.closed[0]
}

func text(s string) *controlv1.Message {
	return &controlv1.Message{Payload: &controlv1.Message_Text{Text: s}}
}

func users(names ...string) *controlv1.Target { return &controlv1.Target{Users: names} }

func everyone() *controlv1.Target { return &controlv1.Target{Everyone: true} }
