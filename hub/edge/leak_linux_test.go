package edge_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub/overflow"
)

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestGoroutinesAndFilesReturnToWhereTheyWere(t *testing.T) {
	for name, over := range map[string]func(*testing.T, ...setup) *bed{
		"tcp": overTCP,
		"tls": overTLS,
	} {
		t.Run(name, func(t *testing.T) {
			b := over(t, shortClose)
			warmUp := b.upgrade("", masked(0x88, ""))
			_ = warmUp.end()
			_ = warmUp.conn.Close()
			waitUntilEmpty(b)
			eventually(t, func() bool { return b.metric("connhub_links") == 0 })
			goroutines, files := runtime.NumGoroutine(), openFiles(t)

			const each = 5
			for range each {
				endInEveryWay(t, b)
			}
			if got := b.metric("connhub_handshakes_total", "result", "accepted"); got < each*5 {
				t.Errorf("%v handshakes", got)
			}
			eventually(t, func() bool { return b.metric("connhub_links") == 0 && b.hub.Len() == 0 })
			eventually(t, func() bool {
				return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files
			})
		})
	}
}

// endInEveryWay connects clients and ends each link in another way.
func endInEveryWay(t *testing.T, b *bed) {
	t.Helper()
	good := b.dial("")
	_ = good.Close(websocket.StatusNormalClosure, "")

	lost := b.upgrade("", "")
	_ = lost.conn.Close()

	bad := b.upgrade("", "\x81\x02hi")
	_ = bad.end()
	_ = bad.conn.Close()

	mute := b.upgrade("user=mute", "")
	slow := b.upgrade("user=slow", "")
	eventually(t, func() bool { return b.hub.Len() == 2 })
	b.waitAttached(2)
	floodUntil(t, b, overflow.CloseSlow, func(flood) bool { return b.hub.Len() == 1 })
	closeEveryone(t, b)
	eventually(t, func() bool { return b.metric("connhub_links") == 0 })
	_ = mute.conn.Close()
	_ = slow.conn.Close()
}
