package loopback

import (
	"net/netip"
	"testing"
)

func TestLoopbackHosts(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "localhost.": true, "localhost.:80": true,
		"a.localhost:1": true, "a.b.LocalHost": true,
		"127.0.0.1": true, "127.1.2.3:4": true, "[::1]": true, "[::1]:80": true, "::1": true,
		"[::ffff:127.0.0.1]:80": true, "::ffff:127.9.9.9": true,
		"": false, ":80": false, "example.com": false, "localhost.example.com": false,
		"notlocalhost": false, ".localhost": false, "localhost..": false, "127.0.0.1.": false,
		"10.0.0.1": false, "0.0.0.0": false, "[::]:80": false, "127.0.0.1.example.com": false,
		"[127.0.0.1": false, "127.1": false, "2130706433": false, "::ffff:10.0.0.1": false,
	} {
		if got := IsHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// DNS may have an answer for a name below localhost, and it need not be this machine.
func TestAnAddressLeavesNothingToAskDNSFor(t *testing.T) {
	for address, want := range map[string]string{
		"app.localhost:80": "localhost:80", "app.localhost": "localhost",
		"LOCALHOST.:0": "localhost:0", "localhost:80": "localhost:80",
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "[::1]": "[::1]",
		"example.com:80": "example.com:80", "": "", ":80": ":80",
	} {
		if got := Address(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

// The Host header and a page's origin are strangers' bytes.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{
		"localhost:80", "a.localhost.", "[::1]:1", "127.0.0.1", "::ffff:127.0.0.1", "[", "]:", "%",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		address := Address(host)
		if !IsHost(host) {
			if address != host {
				t.Errorf("%q is not this machine, and became %q", host, address)
			}
			return
		}
		to := hostOf(address)
		ip, err := netip.ParseAddr(to)
		if to != "localhost" && (err != nil || !ip.Unmap().IsLoopback()) {
			t.Errorf("%q is this machine, and is listened at or dialled as %q", host, address)
		}
		if !IsHost(address) || Address(address) != address {
			t.Errorf("%q became %q, which is another answer", host, address)
		}
	})
}
