//go:build bench && linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"unsafe"
)

// congestion is the congestion control of all sockets here.
const congestion = "reno"

// reno sets it.
func reno(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion)
	})
	return errors.Join(err, failed)
}

// listen opens a listener on loopback; what it accepts inherits its congestion control.
func listen() (net.Listener, error) {
	config := net.ListenConfig{Control: reno}
	return config.Listen(context.Background(), "tcp", "127.0.0.1:0")
}

// keeper is a listener that keeps a descriptor of its own of each socket that it accepts, for the reference to write to. The
// sockets stay what they are, so that the hub takes the same way to them as ever.
type keeper struct {
	net.Listener

	mu  sync.Mutex
	fds []int
}

// Accept keeps what it returns.
func (k *keeper) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(conn.(*net.TCPConn))
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fds = append(k.fds, fd)
	return conn, nil
}

// duplicate returns another descriptor of a socket: non-blocking too, and unknown to Go's poller.
func duplicate(conn *net.TCPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd uintptr
	var errno syscall.Errno
	err = raw.Control(func(from uintptr) {
		fd, _, errno = syscall.RawSyscall(syscall.SYS_FCNTL, from, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if errno != 0 {
		err = errno
	}
	return int(fd), err
}

// write is the reference: the same bytes to each socket, one write(2) each.
func (k *keeper) write(b []byte) error {
	for _, fd := range k.fds {
		if err := writeRaw(fd, b); err != nil {
			return err
		}
	}
	return nil
}

// writeRaw writes to a non-blocking socket that has room.
func writeRaw(fd int, b []byte) error {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 || int(n) != len(b) {
		return fmt.Errorf("raw write: %d of %d bytes: %w", int(n), len(b), errno)
	}
	return nil
}
