//go:build unix

package netpoll

import (
	"errors"
	"io"
	"net"
	"sync"
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
	case *Conn:
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

// rawWrite is a write to a raw socket that does not wait. Writes are pooled, with the function that
// syscall.RawConn calls, so a write allocates nothing.
type rawWrite struct {
	bytes   []byte
	n       int
	blocked bool
	err     error

	writeOnceFunc func(fd uintptr) bool
}

var rawWrites = sync.Pool{New: func() any {
	w := new(rawWrite)
	w.writeOnceFunc = w.writeOnce
	return w
}}

// writeOnce always returns true: Go's poller must not wait.
func (w *rawWrite) writeOnce(fd uintptr) bool {
	w.n, w.blocked, w.err = writeSocket(fd, w.bytes)
	return true
}

// writeRaw is writeSocket for a raw socket. blocked is also set if it took only a part of b.
func writeRaw(raw syscall.RawConn, b []byte) (n int, blocked bool, err error) {
	w := rawWrites.Get().(*rawWrite)
	w.bytes = b
	if err = raw.Write(w.writeOnceFunc); err == nil {
		n, blocked, err = w.n, w.blocked || w.n < len(b), w.err
	}
	*w = rawWrite{writeOnceFunc: w.writeOnceFunc} // the pool must not keep b alive
	rawWrites.Put(w)
	return n, blocked, err
}

// hasRoom reports whether a socket has room for output, or an error that a write finds.
func hasRoom(fd uintptr) bool { return lookForEvents(int(fd), unix.POLLOUT) != 0 }

// writeSocket does a write(2) on a non-blocking socket. blocked means that the socket takes nothing
// now.
func writeSocket(fd uintptr, b []byte) (n int, blocked bool, err error) {
	if len(b) == 0 {
		return 0, false, nil
	}
	// The calls themselves convert p to a uintptr, or nothing would keep b in its place.
	p := unsafe.Pointer(unsafe.SliceData(b)) //nolint:gosec // as syscall.Write does it
	return retryOnSignal(func() (uintptr, uintptr, syscall.Errno) {
		if len(b) > MaxWrite {
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
	got := lookForEvents(fd, unix.POLLIN|unix.POLLOUT)
	return got&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0, got&unix.POLLOUT != 0
}

// lookForEvents returns which events of poll(2) a socket has now.
func lookForEvents(fd int, events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(fds, 0); !errors.Is(err, unix.EINTR) {
			return fds[0].Revents
		}
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
