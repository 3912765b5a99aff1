package edge_test

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/lobby"
)

// queueing is a bed whose handshakes hold their cores until a gate lets a handshake go on.
// Handshakes of 127.0.0.2 pass.
type queueing struct {
	*bed

	address string
	gate    chan struct{}
	open    func()       // the gate, for all
	arrived atomic.Int64 // handshakes that came to the gate
	passed  atomic.Int64 // handshakes that were let on
	other   chan string  // a handshake of 127.0.0.2 has a core
}

func newQueueing(t *testing.T, most int, timeout time.Duration) *queueing {
	t.Helper()
	l, config := listen(t), certificate().Clone()
	q := &queueing{
		address: l.Addr().String(), gate: make(chan struct{}),
		other: make(chan string, 100),
	}
	q.open = sync.OnceFunc(func() { close(q.gate) })
	key := config.Certificates[0]
	config.Certificates = nil
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if from := hello.Conn.RemoteAddr().(*net.TCPAddr).IP.String(); from == "127.0.0.2" {
			q.other <- from
			return &key, nil
		}
		q.arrived.Add(1)
		<-q.gate
		q.passed.Add(1)
		return &key, nil
	}
	q.bed = onLoopback(t, edge.NewTLSListener(l, config), nil,
		[]setup{func(_ *hub.Config, c *edge.Config) {
			c.MaxStrangers, c.HandshakeTimeout = most, timeout
			var err error
			if c.Strangers, err = lobby.NewMetrics(c.Metrics); err != nil {
				t.Fatal(err)
			}
		}})
	t.Cleanup(q.open) // or Shutdown waits
	return q
}

// connect opens a socket from an address of loopback.
func (q *queueing) connect(ctx context.Context, from string) net.Conn {
	q.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(ctx, "tcp", q.address)
	if err != nil {
		q.t.Fatal(err)
	}
	q.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// greet does a whole handshake from an address.
func (q *queueing) greet(ctx context.Context, from string) <-chan error {
	q.t.Helper()
	conn := q.connect(ctx, from)
	done := make(chan error, 1)
	go func() {
		defer func() { _ = conn.Close() }()
		done <- tls.Client(conn, &tls.Config{
			RootCAs:    certificate().RootCAs,
			ServerName: "hub.test",
		}).HandshakeContext(ctx)
	}()
	return done
}

// flood has n strangers of an address say hello and nothing more.
func (q *queueing) flood(n int, from string) {
	q.t.Helper()
	for range n {
		conn := tls.Client(stopsAfterHello{q.connect(q.t.Context(), from)},
			&tls.Config{InsecureSkipVerify: true})
		_ = conn.HandshakeContext(q.t.Context()) // or it was dropped already
	}
}

// entered is how many connections the hub has accepted.
func (q *queueing) entered() float64 {
	n := q.metric("connhub_strangers", "port", "clients")
	for _, result := range []string{"admitted", "ended", "replaced"} {
		n += q.metric("connhub_strangers_total", "port", "clients", "result", result)
	}
	return n
}

func (q *queueing) inLine() int {
	return int(q.metric("connhub_tls_handshakes", "state", "waiting"))
}

func (q *queueing) failed() int {
	return int(q.metric("connhub_tls_handshakes_total", "result", "failed"))
}

// The hub waits for its clients for HandshakeTimeout. The time that clients wait for a core does
// not count, nor the time in which the hub computes: it may have been stopped meanwhile.
func TestTheTimeInLineIsNotTheClients(t *testing.T) {
	t.Parallel() // it waits most of the time
	const clients = 40
	cores, timeout := runtime.GOMAXPROCS(0), edge.DefaultConfig().HandshakeTimeout
	q := newQueueing(t, cores+clients, timeout)
	all := []<-chan error{q.greet(t.Context(), "127.0.0.1")}
	eventually(t, func() bool { return q.arrived.Load() == 1 })
	q.flood(cores-1, "127.0.0.1")
	eventually(t, func() bool { return q.arrived.Load() == int64(cores) })
	for range clients {
		all = append(all, q.greet(t.Context(), "127.0.0.2"))
	}
	eventually(t, func() bool { return q.inLine() == clients })
	<-time.After(timeout + time.Second)
	q.open()
	for _, done := range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAnAddressThatFillsTheLineKeepsNoOtherAddressOut(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	most := 32 * cores
	q := newQueueing(t, most, time.Hour)
	if err := <-q.greet(t.Context(), "127.0.0.2"); err != nil {
		t.Fatal(err)
	}
	<-q.other
	eventually(t, func() bool { return q.metric("connhub_strangers", "port", "clients") == 0 })
	q.flood(2*most, "127.0.0.1")
	all := float64(1 + 2*most)
	// A dropped handshake has left the line when it has failed. So the line is full again only with
	// the newcomer.
	eventually(t, func() bool {
		return q.entered() == all && q.failed() == most && q.inLine() == most-cores
	})
	done := q.greet(t.Context(), "127.0.0.2")
	eventually(t, func() bool {
		return q.entered() == all+1 && q.failed() == most+1 && q.inLine() == most-cores
	})
	released := 0
	for len(q.other) == 0 {
		if released++; released > 2 {
			t.Fatalf("the other address waits for more than one handshake of the first")
		}
		// All that have a core are at the gate.
		eventually(t, func() bool { return q.arrived.Load() == int64(cores+released-1) })
		q.gate <- struct{}{}
		eventually(t, func() bool {
			return q.arrived.Load() == int64(cores+released) || len(q.other) > 0
		})
	}
	q.open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownWaitsForNoHandshakeInLine(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	q := newQueueing(t, 1000, time.Hour)
	q.flood(200, "127.0.0.1")
	eventually(t, func() bool { return q.inLine() == 200-cores })
	ended := make(chan struct{})
	go func() {
		q.done()
		close(ended)
	}()
	eventually(t, func() bool { return q.inLine() == 0 })
	q.open()
	<-ended
	if n := q.passed.Load(); n != int64(cores) {
		t.Errorf("%d handshakes were done after Shutdown, want %d", n, cores)
	}
}
