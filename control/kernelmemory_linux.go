package control

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentBytes is how much the kernel takes for a caller beyond what is on its way. By itself it takes
// up to net.ipv4.tcp_wmem's maximum, 4 MiB, of answers that are then in no budget of the hub. What is
// on its way is bounded by what the caller's network takes, so callers that read lose nothing.
const unsentBytes = 256 << 10

// boundKernelMemory bounds what the kernel keeps for a caller that does not read. What a caller sends
// is bounded by HTTP/2's windows.
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
		_ = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
	})
}
