//go:build unix

package edge

import (
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSocket returns the socket of a connection that is a plain socket, or nil. A connection that
// wraps a socket, like TLS, must see all written bytes.
func rawSocket(conn net.Conn) syscall.RawConn {
	var socket syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		socket = c
	case *tcpConn:
		socket = c.TCPConn
	case *net.UnixConn:
		socket = c
	default:
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil // closed; the next write finds out
	}
	return raw
}

// maxRawWrite is the most bytes of a write that goes past Go's scheduler. The kernel copies as many
// in some 20 µs, for which a garbage collection may have to wait. Handing the processor over and
// back costs more than most writes.
const maxRawWrite = maxBatch

// writeSocket does a write(2) on a non-blocking socket. blocked means that the socket takes nothing
// now.
func writeSocket(fd uintptr, b []byte) (n int, blocked bool, err error) {
	if len(b) == 0 {
		return 0, false, nil
	}
	// The calls themselves convert p to a uintptr, or nothing would keep b in its place.
	p := unsafe.Pointer(unsafe.SliceData(b)) //nolint:gosec // as syscall.Write does it
	return retryOnSignal(func() (uintptr, uintptr, syscall.Errno) {
		if len(b) > maxRawWrite {
			return syscall.Syscall(syscall.SYS_WRITE, fd, uintptr(p), uintptr(len(b)))
		}
		return syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), uintptr(len(b)))
	})
}

// readSocket does a read(2) on a non-blocking socket. blocked means that there is no input now.
func readSocket(fd int, b []byte) (n int, blocked bool, err error) {
	p := unsafe.Pointer(unsafe.SliceData(b)) //nolint:gosec // as syscall.Read does it
	return retryOnSignal(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(p), uintptr(len(b)))
	})
}

// pollSocket reports whether a socket has input now, an end or an error included, and whether it
// has room for output.
func pollSocket(fd int) (readable, writable bool) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	for {
		_, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		got := fds[0].Revents
		return got&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0, got&unix.POLLOUT != 0
	}
}

// retryOnSignal does a system call on a non-blocking socket. It repeats the call if a signal
// interrupted it.
func retryOnSignal(call func() (uintptr, uintptr, syscall.Errno)) (n int, blocked bool, err error) {
	for {
		n, _, errno := call()
		switch errno {
		case 0:
			return int(n), false, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, errno
		}
	}
}

// endOfFile returns the error of a read that did not block: io.EOF if it got no bytes and no error.
func endOfFile(n int, err error) error {
	if n == 0 && err == nil {
		return io.EOF
	}
	return err
}
