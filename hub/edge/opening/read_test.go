package opening_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/edge/opening"
)

const (
	timeout = 10 * time.Second
	upgrade = "GET /ws?user=ann HTTP/1.1\r\nHost: hub.test\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

// result holds the results of Read.
type result struct {
	request *opening.Request
	rest    net.Conn
	err     error
}

// read gives Read a connection on which a client sends, and returns the client's end.
func read(mayWait bool) (client net.Conn, results <-chan result) {
	client, conn := net.Pipe()
	c := make(chan result, 1)
	go func() {
		request, rest, err := opening.Read(conn, nil, timeout,
			func(path string) bool { return path == "/ws" }, func() bool { return mayWait })
		if err != nil {
			_ = conn.Close()
		}
		c <- result{request, rest, err}
	}()
	return client, c
}

// send sends text in pieces. It goes on until the connection is closed, or all is sent.
func send(client net.Conn, text string, size int) {
	for piece := []byte(text); len(piece) > 0; piece = piece[min(size, len(piece)):] {
		if _, err := client.Write(piece[:min(size, len(piece))]); err != nil {
			return
		}
	}
}

func TestOnlyRequestsForAWebSocketAreServed(t *testing.T) {
	with := func(old, replaced string) string { return strings.Replace(upgrade, old, replaced, 1) }
	for name, c := range map[string]struct {
		text   string
		served bool
	}{
		"upgrade":            {upgrade, true},
		"bare line feeds":    {strings.ReplaceAll(upgrade, "\r\n", "\n"), true},
		"frames behind it":   {upgrade + "\x81\x80abcd", true},
		"page":               {with("/ws", "/"), false},
		"no upgrade":         {with("Upgrade: websocket\r\n", ""), false},
		"method":             {with("GET", "POST"), false},
		"HTTP/1.0":           {with("1.1", "1.0"), false},
		"HTTP/2.0":           {with("1.1", "2.0"), false},
		"body":               {with("Host", "Content-Length: 5\r\nHost"), false},
		"chunks":             {with("Host", "Transfer-Encoding: chunked\r\nHost"), false},
		"expect":             {with("Host", "Expect: 100-continue\r\nHost"), false},
		"two hosts":          {with("Host", "Host: a\r\nHost"), false},
		"no host":            {with("Host: hub.test\r\n", ""), false},
		"bad host":           {with("hub.test", "a b"), false},
		"whole URL":          {with("/ws", "http://other.test/ws"), false},
		"bad header":         {with("Host", "a b: c\r\nHost"), false},
		"bad value":          {with("hub.test", "hub.test\r\nA: \x01"), false},
		"no HTTP":            {"hello\r\n\r\n", false},
		"TLS":                {"\x16\x03\x01\x02\x00", false},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false},
		"first line is bad":  {"GET /ws\r\n", false},
		"long head":          {with("ann", strings.Repeat("a", 5000)), false},
		"long head, no line": {"GET /" + strings.Repeat("a", 5000), false},
	} {
		for _, size := range []int{1, 7, len(c.text)} {
			client, results := read(true)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				send(client, c.text, size)
			}()
			r := <-results
			if r.err != nil || (r.request != nil) != c.served {
				t.Fatalf("%s in pieces of %d: served %v, error %v", name, size, r.request != nil,
					r.err)
			}
			if r.request != nil {
				r.request.Finish(timeout)
			} else {
				again := make([]byte, len(c.text))
				if n, err := io.ReadFull(r.rest, again); err != nil || string(again) != c.text {
					t.Errorf("%s: net/http reads %q, %v", name, again[:n], err)
				}
				_ = r.rest.Close()
			}
			<-sent
			_ = client.Close()
		}
	}
}

// serveByNetHTTP returns the request that net/http's server makes of a text, or nil if it answers
// the text itself.
func serveByNetHTTP(t *testing.T, text []byte) *http.Request {
	t.Helper()
	var served *http.Request
	client, conn := net.Pipe()
	ended := make(chan struct{})
	server := &http.Server{
		Handler: http.HandlerFunc(
			func(_ http.ResponseWriter, r *http.Request) { served = r }),
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ReadHeaderTimeout: timeout,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(ended)
			}
		},
	}
	server.SetKeepAlivesEnabled(false)
	go func() { _, _ = io.Copy(io.Discard, client) }()
	go func() {
		_, _ = client.Write(text)
		_ = client.Close()
	}()
	_ = server.Serve(&single{conn: conn, done: ended})
	return served
}

// single is a listener with a single connection.
type single struct {
	conn net.Conn
	done chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if conn := s.conn; conn != nil {
		s.conn = nil
		return conn, nil
	}
	<-s.done
	return nil, net.ErrClosed
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }

// FuzzServedRequestsAreThoseOfNetHTTP holds that a request is served only if net/http's server
// gives it to its handler too, with the same content.
func FuzzServedRequestsAreThoseOfNetHTTP(f *testing.F) {
	f.Add([]byte(upgrade))
	f.Add([]byte(strings.ReplaceAll(upgrade, "\r\n", "\n")))
	f.Add([]byte(strings.Replace(upgrade, "Host", "A:\r\n b\r\nHost", 1)))
	f.Add([]byte(strings.Replace(upgrade, "hub.test", " hub.test:80 ", 1)))
	f.Add([]byte(strings.Replace(upgrade, "/ws?user=ann", "/%77s?%zz", 1)))
	f.Add([]byte(upgrade + upgrade))
	f.Add([]byte(strings.Replace(upgrade, "1.1", "2.0", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		client, results := read(true)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			send(client, string(text), len(text)+1)
			_ = client.Close()
		}()
		r := <-results
		switch {
		case r.request != nil:
			have, want := r.request.HTTP(), serveByNetHTTP(t, text)
			if want == nil {
				t.Fatalf("net/http does not serve %q", text)
			}
			if diff := cmp.Diff([]any{
				want.Method, want.Proto, want.Host, want.RequestURI, want.URL,
				want.Header, want.ContentLength,
			}, []any{
				have.Method, have.Proto, have.Host,
				have.RequestURI, have.URL, have.Header, have.ContentLength,
			}); diff != "" {
				t.Fatal(diff)
			}
			r.request.Finish(timeout)
		case r.err == nil:
			again := make([]byte, len(text))
			if _, err := io.ReadFull(r.rest, again); err != nil || !bytes.Equal(again, text) {
				t.Fatalf("net/http reads %q of %q, %v", again, text, err)
			}
			_ = r.rest.Close()
		}
		<-sent
	})
}

func TestABegunRequestHasNoMoreTimeWithNetHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, results := read(true)
		began := time.Now()
		go send(client, "GET /"+strings.Repeat("a", 5000), 100)
		r := <-results
		if r.err != nil || r.rest == nil {
			t.Fatalf("%+v", r)
		}
		time.Sleep(timeout / 2)
		if err := r.rest.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.rest)
		if took := time.Since(began); took != timeout {
			t.Errorf("the client had %v for its request, want %v", took, timeout)
		}
		_, _ = client.Close(), r.rest.Close()
	})
}

func TestSilentAndLateClientsEndRead(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		mayWait bool
		wait    time.Duration
	}{
		"silent":                {"", false, timeout},
		"half a request":        {upgrade[:50], true, timeout},
		"half, at the shutdown": {upgrade[:50], false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			client, results := read(c.mayWait)
			began := time.Now()
			go send(client, c.text, len(c.text)+1)
			if r := <-results; r.err == nil || time.Since(began) != c.wait {
				t.Errorf("%s: error %v after %v, want one after %v", name, r.err, time.Since(began),
					c.wait)
			}
			_ = client.Close()
		})
	}
}
