package port

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// UnsentBytes is the bytes that the kernel takes for a caller beyond the bytes on their way. By
// itself it takes up to net.ipv4.tcp_wmem's maximum, 4 MiB, of answers that are then in no budget
// of the hub. The caller's network bounds the bytes on their way, so callers that read lose
// nothing.
const UnsentBytes = 256 << 10

// boundKernelMemory bounds the bytes that the kernel keeps for a caller that does not read.
// HTTP/2's windows bound the bytes that a caller sends.
func boundKernelMemory(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed
	}
	// A kernel that has no such option keeps more.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, UnsentBytes)
	})
}
