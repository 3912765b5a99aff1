package edge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/internal/testkit"
)

// bed is a hub with an edge that serves on a listener.
type bed struct {
	t       *testing.T
	hub     *hub.Hub
	edge    *edge.Server
	metrics *prometheus.Registry
	causes  *causes
	lines   map[string]joinedLines // for clients over lines, by subprotocol; nil: see open
	dialer  func(context.Context) (net.Conn, error)
	client  *http.Client
	done    func()
}

// causes observes a hub and keeps how connections ended.
type causes struct {
	mu   sync.Mutex
	list []cause.CloseStatus
}

func (c *causes) Applied(_ *hub.Connection, op hub.Op) {
	if op.Kind == hub.OpClose {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.list = append(c.list, op.Close)
	}
}

func (c *causes) all() []cause.CloseStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]cause.CloseStatus(nil), c.list...)
}

// setup is a test's change of the configuration.
type setup func(*hub.Config, *edge.Config)

func newBed(
	t *testing.T, listener net.Listener, dialer func(context.Context) (net.Conn, error),
	setups ...setup,
) *bed {
	t.Helper()
	b := &bed{t: t, metrics: prometheus.NewRegistry(), causes: &causes{}, dialer: dialer}
	hc := hub.DefaultConfig()
	hc.ID, hc.Observers = hub.NewID(), []hub.Observer{{Applied: b.causes.Applied}}
	ec := edge.DefaultConfig()
	ec.Anonymous = true
	ec.Plain, ec.Protocols = plain.Protocol{}, []edge.Protocol{envelope.Protocol{}}
	ec.Metrics = b.metrics
	ec.PublicURL = &url.URL{Scheme: "https", Host: "hub.test"}
	for _, s := range append(setups, links) {
		s(&hc, &ec)
	}
	var err error
	if b.hub, err = hub.New(hc); err != nil {
		t.Fatal(err)
	}
	ec.Hub = b.hub
	if b.edge, err = edge.New(ec); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.edge.Serve(listener) }()

	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer(ctx)
		},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer(ctx)
		},
	}
	b.client = &http.Client{Transport: transport}
	b.done = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.hub.Shutdown(ctx); err != nil {
			t.Errorf("hub.Shutdown: %v", err)
		}
		if err := b.edge.Shutdown(ctx); err != nil {
			t.Errorf("edge.Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := b.hub.CheckAtRest(); err != nil {
			t.Errorf("invariants: %v", err)
		}
	})
	return b
}

// bubble runs a test in a synctest bubble with an edge on a listener in memory.
func bubble(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		b := newBed(t, l, l.dial, setups...)
		defer b.done()
		test(t, b)
	})
}

// overTCP makes an edge on a real loopback socket.
func overTCP(t *testing.T, setups ...setup) *bed {
	t.Helper()
	l := listen(t)
	return onLoopback(t, l, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}, setups)
}

// overTLS is overTCP with TLS.
func overTLS(t *testing.T, setups ...setup) *bed {
	t.Helper()
	l := listen(t)
	config := certificate()
	return onLoopback(t, edge.NewTLSListener(l, config),
		func(ctx context.Context) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{RootCAs: config.RootCAs, ServerName: "hub.test"}}
			return d.DialContext(ctx, "tcp", l.Addr().String())
		}, setups)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// onLoopback makes an edge with the machine's clock. It sends no pings unless a setup asks for
// them. So the duration of a test does not change the frames that its clients read.
func onLoopback(
	t *testing.T, l net.Listener, dialer func(context.Context) (net.Conn, error), setups []setup,
) *bed {
	t.Helper()
	silent := func(_ *hub.Config, c *edge.Config) { c.PingInterval = time.Hour }
	b := newBed(t, l, dialer, append([]setup{silent}, setups...)...)
	t.Cleanup(b.done)
	return b
}

// certificate is a TLS configuration for hub.test, made once. Clients trust its RootCAs.
var certificate = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"hub.test"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      roots,
	}
})

// memory is a listener whose connections are net.Pipes.
type memory struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory {
	return &memory{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.accept <- server:
		return client, nil
	case <-m.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.accept:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// dial connects a client; query is user and groups in Anonymous mode.
func (b *bed) dial(query string, subprotocols ...string) *websocket.Conn {
	b.t.Helper()
	c, _, err := websocket.Dial(b.t.Context(), "ws://hub.test/ws?"+query, &websocket.DialOptions{
		HTTPClient:   b.client,
		Subprotocols: subprotocols,
	})
	if err != nil {
		b.t.Fatalf("dial: %v", err)
	}
	c.SetReadLimit(-1)
	b.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// send delivers to a target and returns when the message is queued: a wire in memory takes nothing
// until it is read.
func (b *bed) send(target hub.Target, kind hub.PayloadKind, payload string) hub.Receipt {
	b.t.Helper()
	return b.deliver(b.t.Context(), &hub.Send{
		Message: &hub.Message{
			Namespace: hub.DefaultNamespace, Kind: kind,
			Payload: []byte(payload),
		},
		Target: target,
		Wait:   hub.WaitQueued,
	})
}

func (b *bed) deliver(ctx context.Context, s *hub.Send) hub.Receipt {
	b.t.Helper()
	d, err := b.hub.Deliver(ctx, s)
	if err != nil {
		b.t.Fatalf("deliver: %v", err)
	}
	d.Wait(ctx)
	return d.Receipt()
}

// infos lists all connections of the default namespace.
func (b *bed) infos() []hub.Info {
	b.t.Helper()
	infos, _, err := b.hub.Connections(hub.DefaultNamespace, &everyone, hub.Cursor{}, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	return infos
}

var everyone = hub.Target{Everyone: true}

// read reads a message, or fails the test.
func read(t *testing.T, c Conn) (websocket.MessageType, string) {
	t.Helper()
	kind, p, err := c.Read(t.Context())
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return kind, string(p)
}

// wantClose reads until the connection ends, for two days at most: in a bubble, pings would go on
// for ever. It checks the code and reason of the close.
func wantClose(t *testing.T, c Conn, code websocket.StatusCode, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour)
	defer cancel()
	for {
		_, _, err := c.Read(ctx)
		if err == nil {
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code || ce.Reason != reason {
			t.Errorf("ended with %v, want %d %q", err, code, reason)
		}
		return
	}
}

// metric returns the value of a counter or gauge. labels are all its labels, as pairs of name and
// value.
func (b *bed) metric(name string, labels ...string) float64 {
	b.t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if len(labels) < 2*i+2 || l.GetName() != labels[2*i] ||
					l.GetValue() != labels[2*i+1] {
					continue next
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	b.t.Fatalf("no metric %s %v", name, labels)
	return 0
}

// waitUntilEmpty waits until the hub has no connection.
func waitUntilEmpty(b *bed) {
	b.t.Helper()
	eventually(b.t, func() bool { return b.hub.Len() == 0 })
}

// eventually waits until ok, at most 10 s of the test's clock.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, "what the test asks for", ok)
}

// waitAttached waits until n connections have their links.
func (b *bed) waitAttached(n int) {
	b.t.Helper()
	eventually(b.t, func() bool {
		attached := 0
		for _, info := range b.infos() {
			if info.Phase == hub.PhaseAttached {
				attached++
			}
		}
		return attached == n
	})
}
