//go:build !linux

package edge

import "net"

// poller: only Linux has one.
type poller struct{}

func (*poller) close() {}

func (*Server) park(*link, net.Conn, []byte) socket { return nil }
