//go:build !race

package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"syscall"
	"testing"
)

// The bounds for the hub's memory of an idle client, in bytes of heap after collections: its
// connection with a user of 15 bytes and a group of its own, its link, its socket, and
// coder/websocket's part. When the bounds were set, the measured values were 3,430 and 10,380 (Go
// 1.26, 64 bits). A stranger with its place in the lobby, or a request, takes more than the
// difference.
const (
	idleBytes    = 3600
	idleTLSBytes = 10_550
)

func TestAnIdleClientTakesLittle(t *testing.T) {
	for name, one := range map[string]struct {
		over  func(*testing.T, ...setup) *bed
		bound int64
	}{"tcp": {overTCP, idleBytes}, "tls": {overTLS, idleTLSBytes}} {
		t.Run(name, func(t *testing.T) {
			const before, clients = 100, 400
			b := one.over(t, shortClose)
			open := func(from, to int) {
				for i := from; i < to; i++ {
					b.openSilent(fmt.Sprintf("user=user-%010d&group=group-%010d", i, i))
				}
				b.waitAttached(to)
			}
			open(0, before) // objects that are made once, and pools
			heap := heapInUse()
			open(before, before+clients)
			each := (heapInUse() - heap) / clients
			t.Logf("%d bytes", each)
			if each > one.bound {
				t.Errorf("an idle client takes %d bytes, bound %d", each, one.bound)
			}
		})
	}
}

// openSilent opens a client that does nothing until the test ends. It takes a descriptor of this
// process, and no memory.
func (b *bed) openSilent(query string) {
	b.t.Helper()
	conn, err := b.dialer(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	c := &raw{t: b.t, conn: conn, r: bufio.NewReader(conn)}
	defer func() { _ = c.socket().Close() }()
	_, _ = io.WriteString(conn, "GET /ws?"+query+" HTTP/1.1\r\n"+upgradeHeader+"\r\n")
	answer, err := http.ReadResponse(c.r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatal(answer, err)
	}
	own, err := c.socket().SyscallConn()
	if err != nil {
		b.t.Fatal(err)
	}
	var fd int
	if e := own.Control(func(first uintptr) { fd, err = syscall.Dup(int(first)) }); e != nil ||
		err != nil {
		b.t.Fatal(e, err)
	}
	b.t.Cleanup(func() { _ = syscall.Close(fd) })
}

// heapInUse returns the bytes in use after collections. Objects with a finalizer or in a pool go in
// a later collection.
func heapInUse() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
