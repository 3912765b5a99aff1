package edge

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// unsentBytes is how much the kernel takes for a client beyond what is on its way: a batch, while the link has the next one.
	// By itself it takes up to net.ipv4.tcp_wmem's maximum, 4 MiB, which no budget and no overflow policy of ours sees. What is on its
	// way is bounded by what the client's network takes (TCP's congestion window), so fast clients lose nothing.
	unsentBytes = maxBatch
	// unreadBytes is how much the kernel keeps of what a client sends faster than the hub reads. By itself it keeps up to
	// net.ipv4.tcp_rmem's maximum, 6 to 32 MiB. It bounds how fast one client can send: at a round trip of 100 ms, 20 Mbit/s.
	unreadBytes = 256 << 10
)

// boundKernelMemory bounds what the kernel keeps for a client, in both directions.
func boundKernelMemory(tcp *net.TCPConn) {
	// A kernel that has no such option keeps more.
	_ = controlSocket(tcp, func(fd int) {
		_ = unix.SetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
		_ = unix.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, unreadBytes/2) // the kernel doubles it (socket(7))
	})
}
