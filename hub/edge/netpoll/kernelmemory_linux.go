package netpoll

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// unsentBytes is how many bytes the kernel takes for a client beyond the bytes on their way: a
	// write, while the owner has the next bytes. By default the kernel takes up to the maximum of
	// net.ipv4.tcp_wmem, 4 MiB, where no budget and no overflow policy sees them. TCP's congestion
	// window bounds the bytes on their way, so fast clients lose nothing.
	unsentBytes = MaxWrite
	// unreadBytes is how many bytes of a client's input the kernel keeps if the client sends faster
	// than its owner reads. By default it keeps up to the maximum of net.ipv4.tcp_rmem, 6 to 32
	// MiB. It bounds the speed of a client: 20 Mbit/s at a round trip of 100 ms.
	unreadBytes = 256 << 10
)

// boundKernelMemory bounds the bytes that the kernel keeps for a client, in both directions.
func boundKernelMemory(tcp *net.TCPConn) {
	// A kernel without such an option keeps more.
	_ = controlSocket(tcp, func(fd int) {
		_ = unix.SetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
		// the kernel doubles it (socket(7))
		_ = unix.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, unreadBytes/2)
	})
}
