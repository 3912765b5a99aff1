//go:build !linux

package control

import "net"

// boundKernelMemory does nothing: what the kernel keeps for a caller is up to the system's settings.
func boundKernelMemory(net.Conn) {}
