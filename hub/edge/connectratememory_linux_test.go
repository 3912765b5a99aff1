//go:build !race

package edge_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// heldBytes bounds the memory of a held handshake, in bytes of heap and stacks: its place in the
// lobby and in the queue, its request with the buffer that read it, two goroutines, and both ends
// of a pipe. When the bound was set, the measured value was the one behind it (Go 1.26, 64 bits).
const heldBytes = 26 << 10 // 21,500: 10,600 of heap and 11,600 of stacks

// Ten thousand clients come at once, and say nothing more. Each takes little while it is held, and
// nothing is left of them.
func TestAHeldHandshakeTakesLittle(t *testing.T) {
	const rate, clients = 2000, 10_000
	bubble(t, func(t *testing.T, b *bed) {
		request := "GET /ws?user=%d HTTP/1.1\r\n" + upgradeHeader +
			"User-Agent: " + strings.Repeat("x", 150) + "\r\n\r\n"
		come := func(n int) (conns []net.Conn) {
			for i := range n {
				conn, err := b.dialer(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Fprintf(conn, request, i); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
			}
			synctest.Wait()
			return conns
		}
		leave := func(conns []net.Conn) {
			for _, conn := range conns {
				_ = conn.Close()
			}
			synctest.Wait()
		}
		leave(come(rate)) // the tokens
		leave(come(100))  // objects that are made once, and pools
		before := memoryInUse()
		conns := come(clients)
		held := b.metric("connhub_handshakes_held", "class", "connect")
		each := (memoryInUse() - before) / clients
		t.Logf("%d bytes", each)
		if held != clients || each > heldBytes {
			t.Errorf("%v handshakes are held, each takes %d bytes, bound %d", held, each, heldBytes)
		}
		above := come(1)
		if answer, err := io.ReadAll(above[0]); err != nil ||
			!strings.Contains(string(answer), "CONNECT_RATE") {
			t.Errorf("a client above the bound: %s, %v", answer, err)
		}
		leave(conns)
		held = b.metric("connhub_handshakes_held", "class", "connect")
		if left := b.metric("connhub_links"); held != 0 || left != 0 {
			t.Errorf("%v handshakes and %v links are left", held, left)
		}
	}, atRate(rate, 2*clients+100))
}

// memoryInUse returns the bytes of heap and stacks in use after collections.
func memoryInUse() int64 {
	heap := heapInUse()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap + int64(m.StackInuse)
}
