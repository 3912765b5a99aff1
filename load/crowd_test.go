package load_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/load"
)

// patience bounds waits for things that happen at once on an idle machine.
const patience = 3 * time.Minute

// bed is a hub behind an edge, as in production.
type bed struct {
	hub *hub.Hub
	url string      // of clients, without the path
	tls *tls.Config // of clients; nil without TLS
}

// newBed serves clients on loopback until the test ends. change may be nil.
func newBed(t *testing.T, secure bool, change func(*hub.Config, *edge.Config)) *bed {
	t.Helper()
	hc, ec := hub.DefaultConfig(), edge.DefaultConfig()
	hc.ID, ec.Anonymous, ec.Plain = hub.NewID(), true, plain.Protocol{}
	if change != nil {
		change(&hc, &ec)
	}
	h, err := hub.New(hc)
	if err != nil {
		t.Fatal(err)
	}
	ec.Hub = h
	e, err := edge.New(ec)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{hub: h, url: "ws://" + l.Addr().String()}
	if secure {
		b.url = "wss://" + l.Addr().String()
		var server *tls.Config
		server, b.tls = certificates()
		l = tls.NewListener(l, server)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := errors.Join(h.Shutdown(ctx), e.Shutdown(ctx), <-served, h.CheckInvariants())
		if err != nil {
			t.Error(err)
		}
	})
	return b
}

// certificates returns configurations with the certificate of net/http/httptest.
func certificates() (server, client *tls.Config) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	server = &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12}
	client = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return server, client
}

// clientConfig configures n clients, each a user of its own, all in group g.
func (b *bed) clientConfig(n int) load.Config {
	c := load.DefaultConfig()
	c.Stamp, c.Ordered, c.TLS = load.NewStamp(), true, b.tls
	for i := range n {
		c.URLs = append(c.URLs, fmt.Sprintf("%s/client/hubs/default?user=u%d&group=g", b.url, i))
	}
	return c
}

// openCrowd opens a crowd until the test ends.
func openCrowd(t *testing.T, c load.Config) *load.Crowd {
	t.Helper()
	crowd, err := load.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(crowd.Close)
	if err := crowd.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return crowd
}

// sendToGroup sends a message of size bytes to group g. It returns the number of matched clients.
func (b *bed) sendToGroup(t *testing.T, stamp *load.Stamp, sequence uint32, size int) int {
	t.Helper()
	payload := stamp.Append(nil, stamp.Now(), sequence)
	payload = append(payload, strings.Repeat("x", size-len(payload))...)
	d, err := b.hub.Deliver(t.Context(), &hub.Send{
		Message: &hub.Message{Namespace: "default", Kind: hub.Text, Payload: payload},
		Target:  hub.Target{Groups: []string{"g"}},
		Wait:    hub.WaitWritten,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Wait(t.Context())
	return d.Receipt().Matched
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	testkit.Eventually(t, what, holds)
}

func TestClientsCountAndTimeWhatReachesThem(t *testing.T) {
	for name, secure := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, secure, nil)
			c := b.clientConfig(50)
			crowd := openCrowd(t, c)
			if got := crowd.Handshakes(); got.Count != 50 || !isOrdered(got) {
				t.Errorf("handshakes: %+v", got)
			}
			sizes := []int{load.StampSize, 100, 125, 126, 1000, 65535, 65536, 200_000}
			if got := b.sendToGroup(t, c.Stamp, load.Rehearsal, 128); got != 50 {
				t.Errorf("%d clients are in the group", got)
			}
			for i, size := range sizes {
				b.sendToGroup(t, c.Stamp, uint32(i)+1, size)
			}
			b.sendToGroup(t, c.Stamp, 3, 128)         // not above the sequence before
			b.sendToGroup(t, load.NewStamp(), 9, 128) // of a different run
			want := int64(50 * (len(sizes) + 1))
			eventually(t, "all messages are counted", func() bool {
				n := crowd.Counts()
				return n.Messages == want && n.Strange == 50
			})
			wanted := load.Counts{
				Opened: 50, Open: 50, Messages: want, Rehearsed: 50, Strange: 50, Disordered: 50,
			}
			got := crowd.Counts()
			got.Pings = 0 // depends on the time that the test takes
			if got != wanted || crowd.Lost() != "" {
				t.Errorf("counts: %+v, want %+v, lost %q", got, wanted, crowd.Lost())
			}
			if l := crowd.Latency(); l.Count != want || !isOrdered(l) || l.Max > patience {
				t.Errorf("latency: %+v", l)
			}
			crowd.Close()
			if got := crowd.Counts(); got.Open != 0 || got.Lost != 0 {
				t.Errorf("after Close: %+v", got)
			}
			eventually(t, "the hub holds nobody", func() bool { return b.hub.Len() == 0 })
		})
	}
}

// isOrdered reports whether the durations of l can be of a single measurement.
func isOrdered(l load.Latency) bool {
	return l.P50 > 0 && l.P99 >= l.P50 && l.Max >= l.P99
}

func TestClientsAnswerPings(t *testing.T) {
	b := newBed(t, false, func(_ *hub.Config, c *edge.Config) {
		c.PingInterval, c.PongTimeout = time.Second, 5*time.Second
	})
	crowd := openCrowd(t, b.clientConfig(3))
	eventually(t, "a ping for each", func() bool { return crowd.Counts().Pings >= 3 })
	if got := crowd.Counts(); got.Open != 3 || got.Lost != 0 {
		t.Errorf("counts: %+v, lost %q", got, crowd.Lost())
	}
}

func TestConnectionsThatTheHubEndsAreLost(t *testing.T) {
	b := newBed(t, false, nil)
	crowd := openCrowd(t, b.clientConfig(3))
	target := &hub.Target{Users: []string{"u1"}}
	status := cause.CloseStatus{Cause: cause.Backend, Code: 4000, Reason: "enough"}
	if _, err := b.hub.CloseConnections(t.Context(), "default", target, status, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one is lost", func() bool { return crowd.Counts().Lost == 1 })
	if got := crowd.Lost(); got != "closed by the server: 4000 enough" {
		t.Errorf("lost because %q", got)
	}
	if got := crowd.Counts(); got.Open != 2 || got.Opened != 3 {
		t.Errorf("counts: %+v", got)
	}
}

func TestOpenEndsWithTheFirstRefusalAndSaysWhy(t *testing.T) {
	b := newBed(t, false, func(c *hub.Config, _ *edge.Config) { c.MaxConnections = 3 })
	c := b.clientConfig(5)
	c.Concurrency = 1
	crowd, err := load.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer crowd.Close()
	err = crowd.Open(t.Context())
	const want = "connection 4 of 5: refused: the hub holds the most connections it may " +
		"(503 Service Unavailable HUB_FULL)"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got := crowd.Counts(); got.Open != 3 {
		t.Errorf("counts: %+v", got)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the system accepts, and no server answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := load.DefaultConfig()
	c.Stamp, c.URLs = load.NewStamp(), []string{"ws://" + l.Addr().String() + "/"}
	crowd, err := load.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer crowd.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := crowd.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	c.HandshakeTimeout = 50 * time.Millisecond
	if crowd, err = load.New(c); err != nil {
		t.Fatal(err)
	}
	err = crowd.Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no answer to its handshake") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoWebSocketServerIsSaid(t *testing.T) {
	tooLong := "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 9000) + "\r\n\r\n"
	for answer, want := range map[string]string{
		"HTTP/1.1 404 Not Found\r\n\r\n":                            "refused: 404 Not Found",
		"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n\r\n": "does not speak WebSocket",
		"SSH-2.0-OpenSSH\r\n\r\n":                                   "does not speak HTTP",
		tooLong:                                                     "too long",
		"HTTP/1.1 101":                                              "breaks off",
	} {
		server := serveAnswer(t, answer)
		c := load.DefaultConfig()
		c.Stamp, c.URLs = load.NewStamp(), []string{server}
		crowd, err := load.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := crowd.Open(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", answer, err, want)
		}
	}
	for _, bad := range []string{"127.0.0.1:80", "http://127.0.0.1", "ws://", "::"} {
		c := load.DefaultConfig()
		c.Stamp, c.URLs = load.NewStamp(), []string{bad}
		crowd, err := load.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := crowd.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "its URL") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// serveAnswer starts a server that answers its first request with text and hangs up. It returns the
// server's URL.
func serveAnswer(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Read(make([]byte, 4096)); err == nil {
			_, _ = conn.Write([]byte(text))
		}
	}()
	return (&url.URL{Scheme: "ws", Host: l.Addr().String(), Path: "/"}).String()
}

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	_, err := load.New(load.Config{})
	for _, want := range []string{
		"URLs", "Stamp", "Concurrency", "HandshakeTimeout", "CloseTimeout",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
