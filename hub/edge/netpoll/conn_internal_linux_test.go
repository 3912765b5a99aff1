package netpoll

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// The bytes that have arrived when the deadline of a read is over are read, once. A deadline that
// was already over when it was set is no deadline.
func TestReadAfterItsDeadlineGetsWhatHasArrived(t *testing.T) {
	client, server := tcpPair(t)
	c := &Conn{TCPConn: server}
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
	read("") // Reprieve later
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
