package lobby_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 100 * time.Millisecond

func newLobby(t *testing.T, most int, log io.Writer) *lobby.Lobby {
	t.Helper()
	l, err := lobby.New(lobby.Config{
		Port: "test", Most: most, Patience: patience,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// memory is a listener whose connections are pipes from addresses that a test chooses.
type memory struct {
	arrivals chan any // net.Conn or error
	closed   chan struct{}
}

func newMemory() *memory { return &memory{make(chan any, 100), make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case a := <-m.arrivals:
		if err, ok := a.(error); ok {
			return nil, err
		}
		return a.(net.Conn), nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	close(m.closed)
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// guest is the hub's end of a pipe.
type guest struct {
	net.Conn

	from string
}

func (g *guest) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(g.from), Port: 1} }

// arrive has a client connect, and returns its end.
func (m *memory) arrive(from string) net.Conn {
	hub, client := net.Pipe()
	m.arrivals <- &guest{hub, from}
	return client
}

// isClosed reports whether the hub has closed a connection.
func isClosed(client net.Conn) bool {
	_ = client.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := client.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestANewcomerTakesThePlaceOfTheStrangerThatKeepsTheHubWaitingLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		l := newLobby(t, 3, t.Output())
		listener := l.Listener(inner)
		defer func() { _ = listener.Close() }()
		accept := func() *lobby.Stranger {
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return l.Find(conn)
		}
		clients := []net.Conn{
			inner.arrive("192.0.2.1"), inner.arrive("192.0.2.1"), inner.arrive("192.0.2.1"),
		}
		first, second := accept(), accept()
		accept()
		time.Sleep(2 * patience)
		first.Serve()
		second.Serve()
		second.Wait() // from now on
		clients = append(clients, inner.arrive("192.0.2.1"))
		accept()
		for i, want := range []bool{false, false, true, false} {
			if got := isClosed(clients[i]); got != want {
				t.Errorf("stranger %d is closed: %v, want %v", i, got, want)
			}
		}
	})
}

func TestTheAddressWithMostStrangersPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		listener := newLobby(t, 3, t.Output()).Listener(inner)
		defer func() { _ = listener.Close() }()
		var clients []net.Conn
		for _, from := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"} {
			time.Sleep(2 * patience)
			clients = append(clients, inner.arrive(from))
			if _, err := listener.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []bool{false, true, false, false} {
			if got := isClosed(clients[i]); got != want {
				t.Errorf("stranger %d is closed: %v, want %v", i, got, want)
			}
		}
	})
}

func TestAcceptWaitsWhileTheHubWorksForAllStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		l := newLobby(t, 1, t.Output())
		listener := l.Listener(inner)
		served := inner.arrive("192.0.2.1")
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Find(conn).Serve()
		inner.arrive("192.0.2.1")
		accepted := make(chan error, 1)
		go func() {
			_, err := listener.Accept()
			accepted <- err
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(accepted) > 0 {
			t.Fatal("a newcomer was let in")
		}
		l.Find(conn).Leave(lobby.Admitted)
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		if isClosed(served) {
			t.Error("the stranger that was served is closed")
		}
		inner.arrive("192.0.2.1") // the stranger before is young
		go func() {
			_, err := listener.Accept()
			accepted <- err
		}()
		synctest.Wait()
		_ = listener.Close()
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestAStrangerOfWhomTheHubHasNotReadAllIsNotDropped(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLobby(t, 2, t.Output())
	listener := l.Listener(inner)
	defer func() { _ = listener.Close() }()
	connect := func(say string) net.Conn {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if _, err := io.WriteString(client, say); err != nil {
			t.Fatal(err)
		}
		if _, err := listener.Accept(); err != nil {
			t.Fatal(err)
		}
		return client
	}
	late, silent := connect("GET "), connect("")
	connect("") // waits until the patience with the silent client is over
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent one: %v, want EOF", err)
	}
	if isClosed(late) {
		t.Error("the one that has sent something is closed")
	}
}

func TestErrorsOfAcceptThatPassAreRetriedAndLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, log := newMemory(), &bytes.Buffer{}
		listener := newLobby(t, 1, log).Listener(inner)
		defer func() { _ = listener.Close() }()
		full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
		for range 15 {
			inner.arrivals <- full
		}
		client := inner.arrive("192.0.2.1")
		defer func() { _ = client.Close() }()
		if _, err := listener.Accept(); err != nil {
			t.Fatal(err)
		}
		n := strings.Count(log.String(), "level=WARN")
		if n != 1 || !strings.Contains(log.String(), "too many open files") {
			t.Errorf("%d lines for 15 errors in 8 s, want 1:\n%s", n, log)
		}
		time.Sleep(10 * time.Second)
		inner.arrivals <- full
		inner.arrivals <- io.ErrUnexpectedEOF
		if _, err := listener.Accept(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("an error that does not pass: %v", err)
		}
		if !strings.Contains(log.String(), "not_logged=14") {
			t.Errorf("the lines that were left out are not told:\n%s", log)
		}
	})
}

func TestARequestIsServedBetweenServeAndItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		l := newLobby(t, 1, t.Output())
		work := make(chan struct{})
		server := &http.Server{}
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-work
			w.WriteHeader(http.StatusNoContent)
		})
		l.Attach(server)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l.Listener(inner)) }()
		asking := inner.arrive("192.0.2.1")
		if _, err := io.WriteString(asking, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		second := inner.arrive("192.0.2.1")
		time.Sleep(time.Minute)
		close(work)
		answer := make([]byte, 1024)
		n, err := asking.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 204")) {
			t.Fatalf("%q, %v", answer[:n], err)
		}
		time.Sleep(2 * patience)
		if !isClosed(asking) {
			t.Error("a connection that is kept alive holds a newcomer's place")
		}
		_ = second.Close()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// crowd is a lobby whose strangers wait in line.
type crowd struct {
	*lobby.Lobby

	t     *testing.T
	inner *memory
	door  net.Listener
}

func newCrowd(t *testing.T, most int) *crowd {
	t.Helper()
	c := &crowd{Lobby: newLobby(t, most, t.Output()), t: t, inner: newMemory()}
	c.door = c.Listener(c.inner)
	t.Cleanup(func() { _ = c.door.Close() })
	return c
}

// queue has a client connect and wait in line. It returns the client's end.
func (c *crowd) queue(from string) net.Conn {
	c.t.Helper()
	client := c.inner.arrive(from)
	conn, err := c.door.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	c.Find(conn).Queue()
	return client
}

func TestANewcomerTakesThePlaceInLineOfAnAddressThatHasManyOnly(t *testing.T) {
	for name, test := range map[string]struct {
		strangers []string
		newcomer  string
		dropped   int // of strangers; -1: none, the newcomer waits
	}{
		"of another address": {
			[]string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"}, "192.0.2.3", 2,
		},
		"of the same, when another wants in": {
			[]string{"192.0.2.2", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, "192.0.2.1", 3,
		},
		"of the same, when no other does": {
			[]string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, "192.0.2.1", -1,
		},
		"when none has many": {
			[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, "192.0.2.5", -1,
		},
		"of an IPv6 network that has many": {
			[]string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"},
			"2001:db8:0:2::1", 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, len(test.strangers))
				var clients []net.Conn
				for _, from := range test.strangers {
					clients = append(clients, c.queue(from))
				}
				c.inner.arrive(test.newcomer)
				accepted := make(chan error, 1)
				go func() {
					_, err := c.door.Accept()
					accepted <- err
				}()
				time.Sleep(10 * patience)
				synctest.Wait()
				if let := len(accepted) == 1; let != (test.dropped >= 0) {
					t.Errorf("the newcomer is let in: %v", let)
				}
				for i, client := range clients {
					if closed := isClosed(client); closed != (i == test.dropped) {
						t.Errorf("stranger %d is closed: %v", i, closed)
					}
				}
				_ = c.door.Close()
			})
		})
	}
}

func TestAStrangerThatIsDroppedFromTheLineIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		c.queue("192.0.2.1")
		c.inner.arrive("192.0.2.1")
		conn, err := c.door.Accept()
		if err != nil {
			t.Fatal(err)
		}
		gone := c.Find(conn).Queue()
		c.queue("192.0.2.2")
		<-gone
	})
}

// A client whose round trip is long keeps the hub waiting for longer than those that sit in line.
func TestAnAddressThatFillsTheLineIsDroppedBeforeASlowStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		slow := c.inner.arrive("192.0.2.2")
		if _, err := c.door.Accept(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			c.queue("192.0.2.1")
			time.Sleep(2 * patience)
		}
		if isClosed(slow) {
			t.Error("the slow stranger is closed")
		}
	})
}

func TestARequestThatWaitsInLineMakesRoomForAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		l := newLobby(t, 2, t.Output())
		waits := make(chan struct{}, 3)
		server := &http.Server{}
		server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				lobby.WaitInLine(r.Context(), func(ctx context.Context) {
					<-ctx.Done()
					waits <- struct{}{}
				})
			}
		})
		l.Attach(server)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l.Listener(inner)) }()
		ask := func(from, path string) net.Conn {
			conn := inner.arrive(from)
			request := "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		first, second := ask("192.0.2.1", "/wait"), ask("192.0.2.1", "/wait")
		synctest.Wait()
		other := ask("192.0.2.2", "/")
		answer, err := io.ReadAll(other)
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			t.Errorf("%q, %v", answer, err)
		}
		<-waits // of the request that was dropped
		_, _, _ = first.Close(), second.Close(), server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestInstrumentsOfLobbiesAreRegisteredOnce(t *testing.T) {
	r := prometheus.NewRegistry()
	if _, err := lobby.NewMetrics(r); err != nil {
		t.Fatal(err)
	}
	if _, err := lobby.NewMetrics(r); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("a second time: %v", err)
	}
}

func TestALobbyNeedsOnlyItsPort(t *testing.T) {
	c := lobby.DefaultConfig()
	if p := c.Validate(); len(p) != 1 || p[0].Field != "Port" {
		t.Errorf("the default: %v", p)
	}
	c.Port = "test"
	if _, err := lobby.New(c); err != nil {
		t.Errorf("without a logger and metrics: %v", err)
	}
	if p := (&lobby.Config{}).Validate(); len(p) != 3 {
		t.Errorf("an empty config: %v", p)
	}
}
