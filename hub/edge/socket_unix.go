//go:build unix

package edge

import (
	"errors"
	"net"
	"syscall"
)

// rawSocket returns the socket of a connection that is nothing but a socket; nil otherwise. Anything that
// wraps one, like TLS, must see all that is written.
func rawSocket(conn net.Conn) syscall.RawConn {
	var socket syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		socket = c
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

// writeSocket does one write(2) on a non-blocking socket. blocked: it takes nothing now.
func writeSocket(fd uintptr, b []byte) (n int, blocked bool, err error) {
	for {
		n, err = syscall.Write(int(fd), b)
		switch {
		case err == nil:
			return n, false, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}
