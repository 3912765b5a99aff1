//go:build !linux

package netpoll

import "net"

// boundKernelMemory does nothing: the system's settings bound the kernel's memory of a client.
func boundKernelMemory(*net.TCPConn) {}
