package node_test

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

// optionsOf returns the options of this process's socket whose peer has that port; nil: the hub has
// not accepted it yet.
func optionsOf(t *testing.T, peer int) map[string]int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		fd, _ := strconv.Atoi(f.Name())
		address, err := unix.Getpeername(fd) // fails for everything but a connected socket
		if a, ok := address.(*unix.SockaddrInet4); err != nil || !ok || a.Port != peer {
			continue
		}
		options := map[string]int{}
		for name, o := range map[string][2]int{
			"no delay":   {unix.IPPROTO_TCP, unix.TCP_NODELAY},
			"keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			"unsent":     {unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
			"unread":     {unix.SOL_SOCKET, unix.SO_RCVBUF},
		} {
			if options[name], err = unix.GetsockoptInt(fd, o[0], o[1]); err != nil {
				t.Fatal(err)
			}
		}
		return options
	}
	return nil
}

// The hub's ends of clients' sockets have the options that the edge relies on: small writes leave
// at once, the kernel sends no probes, and it keeps few bytes.
func TestSocketsOfClientsHaveTheirOptions(t *testing.T) {
	hub := nodetest.Start(t, nil)
	link, err := net.Dial("tcp", hub.Clients)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = link.Close() }()
	if _, err := link.Write([]byte("GET /ws HTTP/1.1\r\nHost: " + hub.Clients +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"no delay": 1, "keep-alive": 0, "unsent": 64 << 10, "unread": 256 << 10}
	var got map[string]int
	testkit.Eventually(t, "the options of a link", func() bool {
		got = optionsOf(t, link.LocalAddr().(*net.TCPAddr).Port)
		return got["unread"] == want["unread"]
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options of a link (-want +got):\n%s", diff)
	}
}
