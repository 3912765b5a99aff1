package edge_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub/edge/frame"
)

// Silent links have no goroutine: not before traffic, not after it, not with half a frame.
func TestSilentLinksHaveNoGoroutines(t *testing.T) {
	eachSocket(t, silentLinks)
}

func silentLinks(t *testing.T, b *bed) {
	t.Helper()
	const clients = 100
	warmUp := b.upgrade("user=warm-up", "")
	b.waitAttached(1)
	eventually(t, func() bool { return parkedLinks(t) == 0 })
	before := runtime.NumGoroutine()
	_ = warmUp

	all := make([]*raw, clients)
	for i := range all {
		all[i] = b.upgrade("", "")
	}
	b.waitAttached(clients + 1)
	silent := func() {
		t.Helper()
		calm := 0 // looks in a row: at the first the hub may not have begun to read
		eventually(t, func() bool {
			calm++
			if runtime.NumGoroutine() > before {
				calm = 0
			}
			return calm == 50
		})
	}
	silent()
	for _, c := range all {
		c.write(masked(0x81, strings.Repeat("x", 100)) + masked(0x89, "ping"))
		c.wantFrame(frame.Pong, "ping")
	}
	silent()
	half := masked(0x82, strings.Repeat("x", 2000))
	for _, c := range all {
		c.write(half[:1000])
	}
	silent()
	for _, c := range all {
		c.write(half[1000:] + masked(0x89, "again"))
		c.wantFrame(frame.Pong, "again")
	}
	silent()
	if got := b.metric("connhub_client_messages_total", "kind", "binary", "protocol",
		"plain"); got != clients {
		t.Errorf("%v messages came, want %d", got, clients)
	}
}

// parkedLinks is how many goroutines of the test's are in package edge and run a link.
func parkedLinks(t *testing.T) int {
	t.Helper()
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "edge.(*link).ServeReadable")
}

// A descriptor that is used again belongs to the new link alone. Events of the old link do not
// reach it.
func TestReusedDescriptorsStayApart(t *testing.T) {
	const rounds = 300
	eachSocket(t, func(t *testing.T, b *bed) {
		steady := b.upgrade("user=steady", "")
		for i := range rounds {
			c := b.upgrade("", "")
			switch i % 3 {
			case 0:
				c.write(masked(0x88, ""))
				_ = c.end()
			case 1:
				c.write(masked(0x81, "half")[:5])
			case 2:
				c.write("\x00")
			}
			_ = c.conn.Close()
			if i%10 == 0 {
				steady.write(masked(0x89, "alive"))
				steady.wantFrame(frame.Pong, "alive")
			}
		}
		eventually(t, func() bool { return b.hub.Len() == 1 && b.metric("connhub_links") == 1 })
		steady.write(masked(0x89, "still"))
		steady.wantFrame(frame.Pong, "still")
	}, shortClose)
}
