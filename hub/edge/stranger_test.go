package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// A request of any kind and form is answered once, and its socket is closed.
func TestEveryAnswerButAnUpgradeClosesTheSocket(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "page")
	})
	for name, request := range map[string]string{
		"options of all":    "OPTIONS * HTTP/1.1\r\nHost: hub.test\r\n\r\n",
		"options of a path": "OPTIONS /ws HTTP/1.1\r\nHost: hub.test\r\n\r\n",
		"page": "GET / HTTP/1.1\r\nHost: hub.test\r\nConnection: " +
			"keep-alive\r\n\r\n",
		"head":       "HEAD / HTTP/1.1\r\nHost: hub.test\r\n\r\n",
		"not found":  "GET /client/nothing HTTP/1.1\r\nHost: hub.test\r\n\r\n",
		"no upgrade": "GET /ws HTTP/1.1\r\nHost: hub.test\r\n\r\n",
		"HTTP/1.0": "GET / HTTP/1.0\r\nHost: hub.test\r\nConnection: " +
			"keep-alive\r\n\r\n",
		"pipelined": strings.Repeat("GET / HTTP/1.1\r\nHost: hub.test\r\n\r\n", 3),
		"a body that never comes": "GET / HTTP/1.1\r\nHost: hub.test\r\nContent-Length: " +
			"100000\r\n\r\n",
		"a large body": "POST / HTTP/1.1\r\nHost: hub.test\r\nContent-Length: " +
			"100000000\r\n\r\n",
		"a chunk that never comes": "POST / HTTP/1.1\r\nHost: hub.test\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n5\r\n",
		"an upgrade with a body": "GET /ws HTTP/1.1\r\n" + upgradeHeader +
			"Content-Length: 5\r\n\r\nhello",
		"expect": "POST / HTTP/1.1\r\nHost: hub.test\r\nExpect: " +
			"100-continue\r\nContent-Length: 5\r\n\r\n",
		"no HTTP": "hello\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				c := b.connect()
				go func() { _, _ = io.WriteString(c.conn, request) }()
				response, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode == http.StatusSwitchingProtocols {
					t.Error("it was upgraded")
				}
				began := time.Now()
				if _, err := io.Copy(io.Discard, c.r); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("closed %v after the answer", took)
				}
			}, func(_ *hub.Config, c *edge.Config) { c.Page = page })
		})
	}
}

func TestClientsAboveTheLinkLimitAreToldToComeLater(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		const upgrade = "GET /ws HTTP/1.1\r\n" + upgradeHeader + "\r\n"
		first := b.upgrade("user=first", "")
		b.upgrade("user=second", "")
		third := b.connect()
		third.write(upgrade)
		response, err := http.ReadResponse(third.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != 503 || !strings.Contains(string(body), "LINK_LIMIT") {
			t.Errorf("%s, %s", response.Status, body)
		}
		wantRetry(t, response.Header, 5, 15)
		_ = first.conn.Close()
		synctest.Wait()
		b.upgrade("user=fourth", "")
		refused := b.connect() // a handshake that fails gives its place back
		refused.write(strings.Replace(upgrade, "13", "12", 1))
		if _, err := http.ReadResponse(refused.r, nil); err != nil {
			t.Fatal(err)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.MaxLinks = 2 })
}

// panicking is a protocol with faults.
type panicking struct{ plain.Protocol }

func (panicking) AppendGreeting(dst []byte, c hub.Info, _ string) ([]byte, hub.PayloadKind) {
	if c.User == "nobody" {
		panic("a fault of the protocol")
	}
	return append(dst, "hello"...), hub.Text
}

func (panicking) Configure(query url.Values) (string, error) {
	if query.Has("panic") {
		panic("a fault of the protocol")
	}
	return "", nil
}

// A panic of ours in a handshake ends the socket of its client, and takes nothing from the rest.
func TestAPanicInAHandshakeEndsItsClientAlone(t *testing.T) {
	for name, path := range map[string]string{
		"by itself": "/ws?panic", "by net/http": "/ws?panic=" + strings.Repeat("x", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			b := overTCP(t, func(_ *hub.Config, c *edge.Config) {
				c.Plain, c.MaxLinks = panicking{}, 2
			})
			for range 5 {
				c := b.connect()
				c.write("GET " + path + " HTTP/1.1\r\n" + upgradeHeader + "\r\n")
				if answer, err := io.ReadAll(c.r); err != nil || len(answer) > 0 {
					t.Errorf("answered with %q, %v", answer, err)
				}
			}
			for range 2 {
				b.upgrade("user=ann", "")
			}
			b.waitAttached(2)
		})
	}
}

// A panic of ours in a greeting, behind the 101, ends its client with 1011, on each kind of link.
func TestAPanicInAGreetingEndsItsClientAlone(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		for range 5 {
			b.upgrade("user=nobody", "").wantEnd(1011, "internal error")
		}
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
		b.upgrade("user=ann", "")
		b.waitAttached(1)
	}, shortClose, func(_ *hub.Config, c *edge.Config) { c.Plain = panicking{} })
}

// A resume needs no token, so any stranger can make up resumes, and leave the close unanswered.
func TestMadeUpResumesKeepNoClientOut(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		const resume = "GET /client/hubs/default?awps_connection_id=x&awps_reconnection_token=y " +
			"HTTP/1.1\r\n" +
			"Sec-WebSocket-Protocol: " + webpubsub.NameReliableJSON + "\r\n" + upgradeHeader +
			"\r\n"
		ask := func() *http.Response {
			c := b.connect()
			c.write(resume)
			response, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			return response
		}
		for i := range 20 {
			response := ask()
			if i < 2 {
				if response.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("resume %d: %s", i, response.Status)
				}
				continue
			}
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != 503 || !strings.Contains(string(body), "RESUME_LIMIT") {
				t.Fatalf("resume %d: %s, %s", i, response.Status, body)
			}
			wantRetry(t, response.Header, 1, 3)
		}
		b.upgrade("user=ann", "")
		time.Sleep(3 * time.Second) // the bubble's clock: the hub has given up the two
		if response := ask(); response.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("when the others are gone: %s", response.Status)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.MaxLinks = 16 })
}

func TestSilentStrangersKeepNoClientOut(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			l := listen(t)
			listener := l
			config := certificate()
			dial := func(ctx context.Context) (net.Conn, error) {
				d := net.Dialer{}
				conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
				if err == nil && secure {
					conn = tls.Client(conn,
						&tls.Config{RootCAs: config.RootCAs, ServerName: "hub.test"})
				}
				return conn, err
			}
			if secure {
				listener = edge.NewTLSListener(l, config)
			}
			b := onLoopback(t, listener, dial, []setup{func(_ *hub.Config, c *edge.Config) {
				c.MaxStrangers, c.HandshakeTimeout = 8, time.Hour
			}})
			for range 100 {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
			}
			for range 20 {
				b.upgrade("user=ann", "")
			}
		})
	}
}

// A client that stops in the middle of its handshake has no place at a core.
func TestHandshakesThatWaitForTheirClientsHoldUpNoOther(t *testing.T) {
	b := overTLS(t, func(_ *hub.Config, c *edge.Config) { c.HandshakeTimeout = time.Hour })
	conn, err := b.dialer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := conn.RemoteAddr().String()
	_ = conn.Close()
	for range 4 * runtime.GOMAXPROCS(0) {
		half, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = half.Close() }()
		stuck := tls.Client(stopsAfterHello{half}, &tls.Config{InsecureSkipVerify: true})
		if err := stuck.HandshakeContext(t.Context()); !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		// the hub's flight: it waits now
		if _, err := bufio.NewReader(half).ReadByte(); err != nil {
			t.Fatal(err)
		}
	}
	b.upgrade("user=ann", "")
}

var errStopped = errors.New("stopped")

// stopsAfterHello sends, and reads nothing.
type stopsAfterHello struct{ net.Conn }

func (stopsAfterHello) Read([]byte) (int, error) { return 0, errStopped }

func TestAnHTTPRequestToATLSPortIsToldSo(t *testing.T) {
	b := overTLS(t)
	conn, err := b.dialer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := conn.RemoteAddr().String()
	_ = conn.Close()
	conn, err = net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: hub.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Fatalf("%v, %v; want 400", response, err)
	}
}
