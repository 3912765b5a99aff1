package edge

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/connhub/connhub/hub/edge/framing"
	"time"
)

// A message whose rest has arrived when its time is over is read. Its client has a little longer
// for the missing bytes, once.
func TestOverdueMessageIsReadToTheEndOfWhatHasArrived(t *testing.T) {
	ends := socketPair(t)
	l := &link{
		server:   &Server{config: Config{MessageTimeout: time.Minute}, started: time.Now()},
		protocol: &countedProtocol{most: 100},
	}
	p := &parked{link: l, fd: ends[0], in: new(parkedInput), fragmented: true}
	l.socket = p
	p.state.Store(running)
	late := func() { p.due = 1 }
	late()
	p.in.drained = true // the last read got all that there was, before the process was stopped
	if _, err := syscall.Write(ends[1], []byte("\x80\x80mask")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.readInput(make([]byte, 100)); n != 6 || err != nil || p.isOverdue() {
		t.Fatalf("read %d, %v; overdue: %t", n, err, p.isOverdue())
	}
	p.fragmented = true
	late()
	if _, err := syscall.Write(ends[1], []byte("\x80\x80mask")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.readInput(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v, for the second time", n, err)
	}
}

// A client that reads while a close waits for it has a little longer when the time is over, once.
func TestCloseWaitsForAClientThatReadsAgain(t *testing.T) {
	ends := socketPair(t)
	l := &link{
		server:  &Server{config: Config{CloseTimeout: time.Minute}, metrics: unregisteredMetrics()},
		writing: true,
	}
	p := &parked{link: l, fd: ends[0], left: &output{blocked: true}}
	l.socket = p
	l.limitCloseLocked()
	defer l.limit.Stop()
	open := func() bool {
		_, err := syscall.Write(ends[0], []byte("x"))
		return err == nil
	}
	l.giveUp()
	if !open() {
		t.Error("ended, though the socket has room again")
	}
	l.giveUp()
	if open() {
		t.Error("the time was put off twice")
	}
}

// The bytes that have arrived when the deadline of a read is over are read, once. A deadline that
// was already over when it was set is no deadline.
func TestReadAfterItsDeadlineGetsWhatHasArrived(t *testing.T) {
	client, server := tcpPair(t)
	c := &tcpConn{TCPConn: server}
	arrive := func() {
		if _, err := client.Write([]byte("in time")); err != nil {
			t.Fatal(err)
		}
		for readable := false; !readable; {
			if err := controlSocket(server,
				func(fd int) { readable, _ = pollSocket(fd) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(want string) {
		t.Helper()
		b := make([]byte, 100)
		n, err := c.Read(b)
		if string(b[:n]) != want || want == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %q, %v; want %q", b[:n], err, want)
		}
	}
	arrive()
	_ = c.SetReadDeadline(time.Unix(1, 0))
	read("")
	until := time.Now().Add(time.Millisecond)
	_ = c.SetDeadline(until)
	<-time.After(time.Until(until.Add(time.Millisecond)))
	if _, err := c.TCPConn.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the deadline is not over: %v", err)
	}
	read("in time")
	if _, err := c.Write([]byte("answer")); err != nil {
		t.Errorf("write: %v", err)
	}
	read("") // reprieve later
	arrive()
	read("")
}

// tcpPair returns both ends of a connection over loopback.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var dialer net.Dialer
	a, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// A link does not read input while its goroutine waits for the client to read. Such input keeps no
// client alive.
func TestInputThatIsNeverReadIsOneSignOfLife(t *testing.T) {
	ends := socketPair(t)
	s := &Server{config: Config{
		PingInterval: time.Second, PongTimeout: time.Second,
		CloseTimeout: time.Minute,
	}, metrics: unregisteredMetrics()}
	later := func() { s.started = s.started.Add(-time.Hour) }
	s.started = time.Now()
	later()
	speaks := &countedProtocol{framed: framing.WebSocket(nil)} // it has nothing to say
	l := &link{server: s, protocol: speaks, broken: true}
	l.socket = &parked{link: l, fd: ends[0]}
	l.heard.Store(1)
	l.pinged.Store(int64(time.Second))
	if _, err := syscall.Write(ends[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	h := &heartbeat{server: s}
	if h.checkLink(l); l.decided {
		t.Fatal("closed though its input was not read")
	}
	later()
	h.checkLink(l) // a ping
	later()
	if h.checkLink(l); !l.decided {
		t.Error("not closed though nothing was heard")
	}
	l.limit.Stop()
}
