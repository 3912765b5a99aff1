//go:build !unix

package netpoll

import (
	"errors"
	"net"
	"syscall"
)

// rawSocket returns nil: only Unix has sockets that can be written to without waiting. A goroutine
// does each write.
func rawSocket(net.Conn) syscall.RawConn { return nil }

func writeSocket(uintptr, []byte) (n int, blocked bool, err error) {
	return 0, false, errors.ErrUnsupported
}

func readSocket(int, []byte) (n int, blocked bool, err error) {
	return 0, false, errors.ErrUnsupported
}

func pollSocket(int) (readable, writable bool) { return false, false }

func endOfFile(_ int, err error) error { return err }

func writeRaw(syscall.RawConn, []byte) (n int, blocked bool, err error) {
	return 0, false, errors.ErrUnsupported
}

func hasRoom(uintptr) bool { return true }
