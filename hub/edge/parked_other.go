//go:build !linux

package edge

import "net"

// poller is empty: only Linux has an epoll.
type poller struct{}

func (*poller) closePoller() {}

func (*Server) parkSocket(*link, net.Conn, []byte) socket { return nil }
