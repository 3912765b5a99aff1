package netpoll

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
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
	for c.spent = true; c.spent; { // a pause of the machine may be longer than the deadline
		_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	}
	testkit.Eventually(t, "the deadline is over", func() bool { return isOver(t, server) })
	read("in time")
	if _, err := c.Write([]byte("answer")); err != nil {
		t.Errorf("write: %v", err)
	}
	read("") // Reprieve later
	arrive()
	read("")
}

// isOver reports whether the deadline of a socket's reads is over. It reads nothing.
func isOver(t *testing.T, tcp *net.TCPConn) bool {
	t.Helper()
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Read(func(uintptr) bool { return true })
	return errors.Is(err, os.ErrDeadlineExceeded)
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
