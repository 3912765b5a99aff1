// Package loopback tells which hosts are this machine itself: the loopback addresses, and the
// names that RFC 6761 §6.3 keeps for them, localhost and each name below it. The same answer
// serves flags, a page's origin and the Host header.
//
// Browsers never ask DNS for a name below localhost, but this process's resolver may, and so
// may a proxy. A host that IsHost has let pass is listened at, or dialled, as Address returns
// it: then nothing is asked for.
//
// It is a leaf: it imports nothing of ours. Its functions keep nothing and are safe for
// concurrent use.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// name is the name of this machine that every system's hosts file has.
const name = "localhost"

// IsHost reports whether host, with or without a port, is this machine's own: 127.0.0.0/8, ::1,
// or either written as IPv4 in IPv6; localhost, or a name below it, in any case, also with the
// dot of a full name.
func IsHost(host string) bool {
	host = hostOf(host)
	return isName(host) || isAddress(host)
}

// Address returns address, with or without a port, for listening or dialling: a name of this
// machine becomes localhost, anything else stays as it is.
func Address(address string) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err == nil && isName(host):
		return net.JoinHostPort(name, port)
	case err != nil && isName(address):
		return name
	}
	return address
}

// hostOf returns the host of an address without port and brackets.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	if inner, ok := strings.CutPrefix(address, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return inner
		}
	}
	return address
}

func isName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	below, found := strings.CutSuffix(host, "."+name)
	return host == name || found && below != ""
}

func isAddress(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
