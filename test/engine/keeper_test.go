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

// congestion is the congestion control of all sockets of the tests.
const congestion = "reno"

// reno sets the congestion control of a socket.
func reno(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptString(
			int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion,
		)
	})
	return errors.Join(err, failed)
}

// listen opens a listener on loopback. Accepted connections inherit its congestion control.
func listen() (net.Listener, error) {
	config := net.ListenConfig{Control: reno}
	return config.Listen(context.Background(), "tcp", "127.0.0.1:0")
}

// keeper is a listener that duplicates the descriptor of each accepted socket, for the reference to
// write to. The sockets themselves stay unchanged, so the hub writes to them as ever.
type keeper struct {
	net.Listener

	mu  sync.Mutex
	fds []int
}

// Accept keeps a duplicate of the socket that it returns.
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

// duplicate returns a second descriptor of a socket. It is non-blocking too, and unknown to Go's
// poller.
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

// write is the reference: a write(2) of the same bytes to each socket.
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
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(
		unsafe.Pointer(unsafe.SliceData(b)),
	), uintptr(len(b)))
	if errno != 0 || int(n) != len(b) {
		return fmt.Errorf("raw write: %d of %d bytes: %w", int(n), len(b), errno)
	}
	return nil
}
