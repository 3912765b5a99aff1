package node

import (
	"net"
	"strings"
	"testing"
)

func TestOtherHubsDialWhereControlListens(t *testing.T) {
	bound := func(address string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for listen, c := range map[string]struct{ bound, want string }{
		"127.0.0.1:0":       {"127.0.0.1:4711", "127.0.0.1:4711"},
		"[::1]:9090":        {"[::1]:9090", "[::1]:9090"},
		"localhost:0":       {"127.0.0.1:4711", "localhost:4711"},
		"hub-0.hubs:9090":   {"10.0.0.7:9090", "hub-0.hubs:9090"},
		"192.0.2.1:control": {"192.0.2.1:9090", "192.0.2.1:9090"},
	} {
		if got, err := findAdvertised(listen, bound(c.bound)); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", listen, got, err, c.want)
		}
	}
	for _, listen := range []string{":9090", "0.0.0.0:9090", "[::]:9090"} {
		got, err := findAdvertised(listen, bound("[::]:9090"))
		if err != nil { // a machine that has no network
			if !strings.Contains(err.Error(), "--advertise-control") {
				t.Errorf("%s: %v", listen, err)
			}
			continue
		}
		host, port, err := net.SplitHostPort(got)
		if ip := net.ParseIP(host); err != nil || port != "9090" || ip == nil ||
			ip.IsLoopback() || ip.IsUnspecified() || listen == "0.0.0.0:9090" && ip.To4() == nil {
			t.Errorf("%s: %s, %v", listen, got, err)
		}
	}
}
