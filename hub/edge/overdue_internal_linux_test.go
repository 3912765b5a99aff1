package edge

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/internal/testkit"
)

// socketOf gives a link a parked socket that is not read. It returns the client's end.
func socketOf(t *testing.T, l *link) net.Conn {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var dialer net.Dialer
	client, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	poller := netpoll.NewPoller(netpoll.Config{
		Started: l.server.started, MessageTimeout: time.Minute, Goroutines: new(sync.WaitGroup),
	})
	l.socket.Open(poller, l, server, nil)
	t.Cleanup(func() {
		l.socket.Close()
		poller.Close()
		_ = client.Close()
	})
	return client
}

// A client that reads while a close waits for it has a little longer when the time is over, once.
func TestCloseWaitsForAClientThatReadsAgain(t *testing.T) {
	l := &link{server: &Server{
		config: Config{CloseTimeout: time.Minute}, metrics: unregisteredMetrics(),
		started: time.Now(),
	}}
	client := socketOf(t, l)
	write := func() (int, error) {
		l.socket.Lock()
		defer l.socket.Unlock()
		return l.socket.TryWriteLocked(make([]byte, maxBatch))
	}
	for n := maxBatch; n == maxBatch; { // until the socket is full
		var err error
		if n, err = write(); err != nil {
			t.Fatal(err)
		}
	}
	l.left = newOutput(l)
	l.limitCloseLocked()
	defer l.ending.limit.Stop()
	for !l.socket.ShowsLife() {
		if _, err := client.Read(make([]byte, maxBatch)); err != nil {
			t.Fatal(err)
		}
	}
	l.giveUp()
	if !l.socket.ShowsLife() {
		t.Fatal("the socket has room no more")
	}
	if _, err := write(); err != nil {
		t.Errorf("ended, though the socket has room again: %v", err)
	}
	l.giveUp()
	if _, err := write(); err == nil {
		t.Error("the time was put off twice")
	}
}

// A link does not read input while its goroutine waits for the client to read. Such input keeps no
// client alive.
func TestInputThatIsNeverReadIsOneSignOfLife(t *testing.T) {
	s := &Server{config: Config{
		PingInterval: time.Second, PongTimeout: time.Second,
		CloseTimeout: time.Minute,
	}, metrics: unregisteredMetrics()}
	later := func() { s.started = s.started.Add(-time.Hour) }
	s.started = time.Now()
	later()
	speaks := &countedProtocol{framed: framing.WebSocket(nil)} // it has nothing to say
	l := &link{server: s, protocol: speaks, ending: ending{broken: true}}
	client := socketOf(t, l)
	l.socket.NoteLife(1)
	l.pinged.Store(int64(time.Second))
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the byte is in the socket", l.socket.ShowsLife)
	if l.CheckLink(s.sinceStart()); l.ending.how != nil {
		t.Fatal("closed though its input was not read")
	}
	later()
	l.CheckLink(s.sinceStart()) // a ping
	later()
	if l.CheckLink(s.sinceStart()); l.ending.how == nil {
		t.Error("not closed though nothing was heard")
	}
	l.ending.limit.Stop()
}

// A reader that took a pong from the socket may not have noted it when a hub that was stopped looks
// for it. Such a link gets a little time, once.
func TestPongThatIsBeingReadCountsWhenTheHubWasLate(t *testing.T) {
	const pinged, timeout = time.Hour, 5 * time.Second
	at := func(now time.Duration) (l *link, again time.Duration) {
		s := &Server{config: Config{
			PingInterval: time.Second, PongTimeout: timeout, CloseTimeout: time.Minute,
		}, metrics: unregisteredMetrics(), started: time.Now()}
		l = &link{
			server: s, protocol: &countedProtocol{framed: framing.WebSocket(nil)},
			ending: ending{broken: true},
		}
		socketOf(t, l)
		l.socket.NoteLife(pinged - 1)
		l.pinged.Store(int64(pinged))
		again = l.CheckLink(now)
		if l.ending.limit != nil {
			t.Cleanup(func() { l.ending.limit.Stop() })
		}
		return l, again
	}
	if l, _ := at(pinged + timeout); l.ending.how == nil {
		t.Error("not closed by a hub that was in time")
	}
	late := pinged + timeout + lateBy
	l, again := at(late)
	if l.ending.how != nil || again != late+netpoll.Reprieve {
		t.Fatalf("closed with %v, or checked at %v", l.ending.how, again)
	}
	l.socket.NoteLife(late)
	if l.CheckLink(again); l.ending.how != nil {
		t.Error("closed, though its pong was noted")
	}
	l, again = at(late)
	if l.CheckLink(again); l.ending.how == nil {
		t.Error("not closed, though nothing came")
	}
	l.ending.limit.Stop()
}
