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

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// The bounds for the hub's memory of an idle client, in bytes of heap after collections: its
// connection with a user of 15 bytes and a group of 16 bytes, its link, and its socket. When the
// bounds were set, the measured values were those behind them (Go 1.26, 64 bits). A stranger with
// its place in the lobby, a request, or a reader takes more than the difference.
const (
	idleBytes         = 1120 // 1,078
	idleTokenBytes    = 1110 // 1,067
	idleReliableBytes = 1275 // 1,227
	idleDeflateBytes  = 1280 // 1,088, and readers in the pool
	idleTLSBytes      = 8200 // 8,041
)

// silent is a client that does nothing, or says something once, until the test ends.
type silent struct {
	query  string
	header string // more lines of the request
	says   string // in the same write as the request
}

// TestAnIdleClientTakesLittle opens clients as users of their own. Each is in a group of its own,
// but those with a token share a group with 99 others.
func TestAnIdleClientTakesLittle(t *testing.T) {
	key := tokenKey(t, "k")
	byQuery := func(i int) silent {
		return silent{query: fmt.Sprintf("user=user-%010d&group=group-%010d", i, i)}
	}
	byToken := func(i int) silent {
		roles, err := auth.ParseRoles([]string{
			"webpubsub.joinLeaveGroup", fmt.Sprintf("webpubsub.sendToGroup.group-%d", i%4),
		})
		if err != nil {
			t.Fatal(err)
		}
		return silent{query: "access_token=" + sign(t, key, audience, auth.Claims{
			User: fmt.Sprintf("user-%010d", i), Groups: []string{fmt.Sprintf("group-%010d", i/100)},
			Roles: roles,
		})}
	}
	for name, one := range map[string]struct {
		over   func(*testing.T, ...setup) *bed
		setup  setup
		client func(int) silent
		bound  int64
	}{
		"tcp":   {overTCP, nil, byQuery, idleBytes},
		"tls":   {overTLS, nil, byQuery, idleTLSBytes},
		"token": {overTCP, withTokens(key), byToken, idleTokenBytes},
		"token, reliable": {overTCP, func(h *hub.Config, c *edge.Config) {
			withTokens(key)(h, c)
			c.Protocols = webpubsub.Protocols(nil)
		}, func(i int) silent {
			c := byToken(i)
			c.header = "Sec-WebSocket-Protocol: " + webpubsub.NameReliableJSON + "\r\n"
			return c
		}, idleReliableBytes},
		"compressed": {overTCP, compressing, func(i int) silent {
			c := byQuery(i)
			c.header = extensionHeader + "permessage-deflate\r\n"
			c.says = masked(0xC1, deflated("hello"))
			return c
		}, idleDeflateBytes},
	} {
		t.Run(name, func(t *testing.T) {
			const before, clients = 200, 400
			setups := []setup{shortClose}
			if one.setup != nil {
				setups = append(setups, one.setup)
			}
			b := one.over(t, setups...)
			held := make([]int, 0, before+clients)
			t.Cleanup(func() {
				for _, fd := range held {
					_ = syscall.Close(fd)
				}
			})
			open := func(from, to int) {
				for i := from; i < to; i++ {
					held = append(held, b.openSilent(one.client(i)))
					// Goroutines are objects that Go keeps: as many at once as before the count.
					if i%10 == 9 {
						b.waitAttached(i + 1)
					}
				}
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

// openSilent opens a client, and returns its descriptor for the caller to close. A client takes no
// memory of this process besides.
func (b *bed) openSilent(s silent) (fd int) {
	b.t.Helper()
	conn, err := b.dialer(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	c := &raw{t: b.t, conn: conn, r: bufio.NewReader(conn)}
	defer func() { _ = c.socket().Close() }()
	_, _ = io.WriteString(conn,
		"GET /ws?"+s.query+" HTTP/1.1\r\n"+upgradeHeader+s.header+"\r\n"+s.says)
	answer, err := http.ReadResponse(c.r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatal(answer, err)
	}
	own, err := c.socket().SyscallConn()
	if err != nil {
		b.t.Fatal(err)
	}
	if e := own.Control(func(first uintptr) { fd, err = syscall.Dup(int(first)) }); e != nil ||
		err != nil {
		b.t.Fatal(e, err)
	}
	return fd
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
