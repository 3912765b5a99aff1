//go:build !linux

package port

import "net"

// boundKernelMemory does nothing: the system's settings bound the kernel's memory for a caller.
func boundKernelMemory(net.Conn) {}
