//go:build !linux

package netpoll

import "net"

// epoll is empty: only Linux has it.
type epoll struct{}

func newEpoll() (*epoll, error) { return &epoll{}, nil }

func (*epoll) closeEpoll() {}

func parkSocket(*Poller, *Socket, Owner, net.Conn, []byte) driver { return nil }
