//go:build unix

package lobby

import (
	"net"
	"syscall"
)

// hasInput reports whether a socket has bytes that the hub has not read.
func hasInput(conn net.Conn) bool {
	socket, ok := bottomConn(conn).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false // closed
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}
