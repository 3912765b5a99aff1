package netpoll

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

// overdueBed is a Conn with its client.
type overdueBed struct {
	*Conn

	t      *testing.T
	client *net.TCPConn
}

func newOverdueBed(t *testing.T) *overdueBed {
	t.Helper()
	client, server := tcpPair(t)
	return &overdueBed{Conn: &Conn{TCPConn: server}, t: t, client: client}
}

// arrive has bytes of the client lie in the socket.
func (b *overdueBed) arrive() {
	b.t.Helper()
	if _, err := b.client.Write([]byte("in time")); err != nil {
		b.t.Fatal(err)
	}
	for readable := false; !readable; {
		if err := controlSocket(b.TCPConn,
			func(fd int) { readable, _ = pollSocket(fd) }); err != nil {
			b.t.Fatal(err)
		}
	}
}

// wantRead checks the bytes of a Read. "" means that the deadline is over.
func (b *overdueBed) wantRead(want string) {
	b.t.Helper()
	p := make([]byte, 100)
	n, err := b.Read(p)
	if string(p[:n]) != want || want == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Errorf("read %q, %v; want %q", p[:n], err, want)
	}
}

// wantWrite checks that the client gets bytes.
func (b *overdueBed) wantWrite(text string) {
	b.t.Helper()
	if n, err := b.Write([]byte(text)); n != len(text) || err != nil {
		b.t.Errorf("wrote %d bytes of %q: %v", n, text, err)
		return
	}
	p := make([]byte, len(text))
	if _, err := io.ReadFull(b.client, p); string(p) != text || err != nil {
		b.t.Errorf("the client got %q, %v; want %q", p, err, text)
	}
}

// wantWriteLate checks that a Write takes no bytes, because its deadline is over.
func (b *overdueBed) wantWriteLate() {
	b.t.Helper()
	if n, err := b.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Errorf("wrote %d bytes with %v, want none", n, err)
	}
}

// The bytes that have arrived when the deadline of a read is over are read, once.
func TestReadAfterItsDeadlineGetsWhatHasArrived(t *testing.T) {
	b := newOverdueBed(t)
	b.arrive()
	_ = b.SetDeadline(time.Now().Add(10 * time.Millisecond))
	testkit.Eventually(t, "the deadline is over", func() bool { return isOver(t, b.TCPConn) })
	b.wantRead("in time")
	b.wantWrite("answer")
	b.wantRead("") // Reprieve later
	b.arrive()
	b.wantRead("")
}

// A process that was stopped sets deadlines that are over already. They count as all limits.
func TestReadAndWriteWithADeadlineThatWasOverWhenItWasSet(t *testing.T) {
	b := newOverdueBed(t)
	limit := time.Now()
	_ = b.SetReadDeadline(limit)
	b.wantRead("")
	b.arrive()
	b.wantRead("in time")
	b.arrive()
	_ = b.SetReadDeadline(limit) // it was put off before
	b.wantRead("")
	_ = b.SetReadDeadline(time.Now())
	b.wantRead("in time")

	_ = b.SetWriteDeadline(limit)
	b.wantWrite("answer")
	_ = b.SetWriteDeadline(limit)
	b.wantWriteLate()
	_ = b.SetWriteDeadline(time.Now())
	b.wantWrite("answer")
}

// A wake-up is no limit: Read and Write report it at once.
func TestReadAndWriteDoNothingAfterAWakeUp(t *testing.T) {
	b := newOverdueBed(t)
	b.arrive()
	_ = b.SetDeadline(past)
	b.wantRead("")
	b.wantWriteLate()
	_ = b.SetDeadline(time.Time{})
	b.wantRead("in time")
	b.wantWrite("answer")
}

// The bytes for which there is room when the deadline of a write is over are written, once. The
// rest waits for the client until Reprieve is over.
func TestWriteAfterItsDeadlineFillsTheRoomThatThereIs(t *testing.T) {
	b := newOverdueBed(t)
	const room, size = 64 << 10, 1 << 20 // size is far more than both sockets have room for
	_ = b.SetWriteBuffer(room)
	_ = b.client.SetReadBuffer(room)
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i % 251)
	}
	receive := func(n int) bool {
		got := make([]byte, n)
		_, err := io.ReadFull(b.client, got)
		return err == nil && bytes.Equal(got, sent[:n])
	}
	_ = b.SetWriteDeadline(time.Now())
	began := time.Now()
	n, err := b.Write(sent)
	if n == 0 || n == size || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	if waited := time.Since(began); waited < Reprieve {
		t.Errorf("waited %v for the client, want %v", waited, Reprieve)
	}
	if !receive(n) {
		t.Errorf("the client did not get the first %d bytes", n)
	}
	b.wantWriteLate() // although there is room again

	_ = b.SetWriteDeadline(time.Now())
	received := make(chan bool, 1)
	go func() { received <- receive(size) }()
	if n, err := b.Write(sent); n != size || err != nil {
		t.Fatalf("wrote %d bytes to a client that reads: %v", n, err)
	}
	if !<-received {
		t.Error("the client did not get what was written")
	}
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
