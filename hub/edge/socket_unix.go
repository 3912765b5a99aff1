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

// rawSocket returns the socket of a connection that is nothing but a socket; nil otherwise. Anything that
// wraps one, like TLS, must see all that is written.
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
		return nil // closed; whoever writes next finds out
	}
	return raw
}

// maxRawWrite is the most bytes of a write that goes past Go's scheduler. The kernel copies as many in some 20 µs, by which
// a garbage collection may have to wait; handing the processor over and back costs more than most writes.
const maxRawWrite = maxBatch

// writeSocket does one write(2) on a non-blocking socket. blocked: it takes nothing now.
func writeSocket(fd uintptr, b []byte) (n int, blocked bool, err error) {
	if len(b) == 0 {
		return 0, false, nil
	}
	return attempt(func() (uintptr, uintptr, syscall.Errno) {
		// The pointers are converted in the calls themselves, or nothing would keep b in its place.
		if len(b) > maxRawWrite {
			return syscall.Syscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // as syscall.Write does it
		}
		return syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // as syscall.Write does it
	})
}

// readSocket does one read(2) on a non-blocking socket. blocked: there is nothing now.
func readSocket(fd int, b []byte) (n int, blocked bool, err error) {
	return attempt(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // as syscall.Read does it
	})
}

// pollSocket reports whether a socket has something to read, also its end or an error, and whether it has room, now.
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

// attempt does a system call on a non-blocking socket, again when only a signal came in between.
func attempt(call func() (uintptr, uintptr, syscall.Errno)) (n int, blocked bool, err error) {
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

// endOfFile is what a read says that got nothing though it was not blocked.
func endOfFile(n int, err error) error {
	if n == 0 && err == nil {
		return io.EOF
	}
	return err
}
