package relay_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed/relay"
)

// server accepts connections until the test ends.
func server(t *testing.T) (address string, accepted <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns <- conn
		}
	}()
	return listener.Addr().String(), conns
}

// link is a connection through a relay, from both sides.
type link struct{ near, far net.Conn }

func openLink(t *testing.T, r *relay.Relay, accepted <-chan net.Conn) link {
	t.Helper()
	near, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	far, _ := testkit.Receive(t, "the server accepts", accepted)
	t.Cleanup(func() { _ = far.Close() })
	return link{near, far}
}

// say sends a line from a conn to its peer, which must arrive there.
func say(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := io.WriteString(from, "line\n"); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, to); got != "line\n" {
		t.Errorf("heard %q", got)
	}
}

func hear(t *testing.T, conn net.Conn) string {
	t.Helper()
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		lines <- line
	}()
	line, _ := testkit.Receive(t, "a line or the end", lines)
	return line
}

// isQuiet reports whether a connection is open and has nothing to read now.
func isQuiet(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestCutEndsLinksAndRefusesFurtherOnes(t *testing.T) {
	address, accepted := server(t)
	r := relay.Start(t, "127.0.0.1")
	r.Connect(address)
	l := openLink(t, r, accepted)
	say(t, l.near, l.far)
	say(t, l.far, l.near)
	r.Cut()
	if hear(t, l.near) != "" || hear(t, l.far) != "" {
		t.Error("a link that is cut carries bytes")
	}
	refused, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if hear(t, refused) != "" {
		t.Error("a relay that is cut carries bytes")
	}
	r.Mend()
	l = openLink(t, r, accepted)
	say(t, l.near, l.far)
}

func TestStallLosesNothing(t *testing.T) {
	address, accepted := server(t)
	r := relay.Start(t, "127.0.0.1")
	r.Connect(address)
	l := openLink(t, r, accepted)
	r.Stall()
	if _, err := io.WriteString(l.near, "line\n"); err != nil {
		t.Fatal(err)
	}
	if !isQuiet(t, l.far) {
		t.Error("a relay that is stalled carries bytes")
	}
	if err := l.far.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.Mend()
	if got := hear(t, l.far); got != "line\n" {
		t.Errorf("heard %q after the stall", got)
	}
}

// TestStrandedLinkIsHalfOpen proves that the far side does not learn that the near side has left.
func TestStrandedLinkIsHalfOpen(t *testing.T) {
	address, accepted := server(t)
	r := relay.Start(t, "127.0.0.1")
	r.Connect(address)
	old := openLink(t, r, accepted)
	say(t, old.near, old.far)
	if got := r.Strand(); got != 1 {
		t.Errorf("%d links are stranded, want 1", got)
	}
	fresh := openLink(t, r, accepted)
	say(t, fresh.near, fresh.far)
	_ = old.near.Close()
	if !isQuiet(t, old.far) {
		t.Error("the far end of a stranded link has heard something")
	}
	if err := old.far.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.Mend()
	if got := hear(t, old.far); got != "" {
		t.Errorf("heard %q from a link that was stranded", got)
	}
	say(t, fresh.far, fresh.near)
}

func TestDropEndsThePickedLinks(t *testing.T) {
	address, accepted := server(t)
	r := relay.Start(t, "127.0.0.1")
	r.Connect(address)
	lost := openLink(t, r, accepted)
	say(t, lost.near, lost.far) // so the relay has the link among its own
	if got := r.Drop(time.Millisecond, func() bool { return true }); got != 1 {
		t.Errorf("%d links are dropped, want 1", got)
	}
	_, _ = io.WriteString(lost.near, "line\n") // the link may be over
	if got := hear(t, lost.far); got != "" {
		t.Errorf("heard %q from a link that is dropped", got)
	}
	kept := openLink(t, r, accepted)
	say(t, kept.near, kept.far)
	if got := r.Drop(time.Millisecond, func() bool { return false }); got != 0 {
		t.Errorf("%d links are dropped, want none", got)
	}
	say(t, kept.near, kept.far)
}

func TestSlowDelaysEachPiece(t *testing.T) {
	const delay = 50 * time.Millisecond
	address, accepted := server(t)
	r := relay.Start(t, "127.0.0.1")
	r.Connect(address)
	l := openLink(t, r, accepted)
	r.Slow(delay)
	began := time.Now()
	say(t, l.near, l.far)
	if took := time.Since(began); took < delay {
		t.Errorf("a line took %v, want %v at least", took, delay)
	}
}
