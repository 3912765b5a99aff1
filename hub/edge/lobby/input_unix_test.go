//go:build unix

package lobby_test

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub/edge/lobby"
)

// unread is a connection with input that the hub has not read. It counts the looks into its socket.
type unread struct {
	guest

	raw *countedSocket
}

func (u *unread) SyscallConn() (syscall.RawConn, error) { return u.raw, nil }

// countedSocket is the socket of unread connections.
type countedSocket struct {
	fd    int
	looks atomic.Int64
}

func (s *countedSocket) Control(f func(uintptr)) error {
	s.looks.Add(1)
	f(uintptr(s.fd))
	return nil
}

func (*countedSocket) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (*countedSocket) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// newCountedSocket returns a socket with bytes that are never read.
func newCountedSocket(t *testing.T) *countedSocket {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Close(ends[0]), syscall.Close(ends[1]) })
	if _, err := syscall.Write(ends[1], []byte("GET")); err != nil {
		t.Fatal(err)
	}
	return &countedSocket{fd: ends[0]}
}

func TestTheHubLooksIntoEachSocketOnceInItsPatience(t *testing.T) {
	socket := newCountedSocket(t)
	synctest.Test(t, func(t *testing.T) {
		const most, patiences = 50, 10
		inner := newMemory()
		door := newLobby(t, most, t.Output()).Listener(inner)
		for range most {
			hub, client := net.Pipe()
			defer func() { _ = client.Close() }()
			inner.arrivals <- &unread{guest{hub, "192.0.2.1"}, socket}
			if _, err := door.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		inner.arrive("192.0.2.1")
		ended := make(chan struct{})
		go func() {
			_, _ = door.Accept()
			close(ended)
		}()
		time.Sleep(patiences * patience)
		synctest.Wait()
		if n := socket.looks.Load(); n < most || n > (patiences+1)*most {
			t.Errorf("%d looks into %d sockets in the time of %d patiences", n, most, patiences)
		}
		_ = door.Close()
		<-ended
	})
}

// A hub that shuts down reads the bytes that have come, and waits for no further bytes.
func TestDropIdleGivesTheHubAPatienceToReadWhatHasCome(t *testing.T) {
	socket := newCountedSocket(t)
	synctest.Test(t, func(t *testing.T) {
		inner := newMemory()
		l := newLobby(t, 4, t.Output())
		door := l.Listener(inner)
		defer func() { _ = door.Close() }()
		accept := func() *lobby.Stranger {
			conn, err := door.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return l.Find(conn)
		}
		hub, unheard := net.Pipe()
		inner.arrivals <- &unread{guest{hub, "192.0.2.1"}, socket}
		accept()
		silent := inner.arrive("192.0.2.1")
		accept()
		served := inner.arrive("192.0.2.1")
		working := accept()
		working.Serve()

		stop := l.DropIdle()
		if !isClosed(silent) || isClosed(unheard) || isClosed(served) {
			t.Error("at first only the silent stranger is dropped")
		}
		time.Sleep(patience)
		if !isClosed(unheard) || isClosed(served) {
			t.Error("after a patience the stranger that is served alone is left")
		}
		working.Wait()
		time.Sleep(patience)
		if !isClosed(served) {
			t.Error("a stranger that keeps the hub waiting later is left")
		}
		stop()
	})
}
