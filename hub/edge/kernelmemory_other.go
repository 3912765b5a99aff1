//go:build !linux

package edge

import "net"

// boundKernelMemory does nothing: what the kernel keeps for a client is up to the system's settings.
func boundKernelMemory(*net.TCPConn) {}
