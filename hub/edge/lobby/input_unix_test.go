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

func TestTheHubLooksIntoEachSocketOnceInItsPatience(t *testing.T) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = syscall.Close(ends[0]), syscall.Close(ends[1]) }()
	if _, err := syscall.Write(ends[1], []byte("GET")); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const most, patiences = 50, 10
		inner, socket := newMemory(), &countedSocket{fd: ends[0]}
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
