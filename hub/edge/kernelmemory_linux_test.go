package edge_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/testkit"
)

// kernelHas returns how many bytes the kernel keeps on the hub's end of a client's connection:
// bytes to be sent or confirmed, and bytes to be read.
func (c *raw) kernelHas() (unsent, unread int) {
	c.t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		c.t.Fatal(err)
	}
	hubs, clients := c.socket().RemoteAddr().(*net.TCPAddr).Port,
		c.socket().LocalAddr().(*net.TCPAddr).Port
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line))
		if strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", hubs)) &&
			strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", clients)) {
			if _, err := fmt.Sscanf(fields[4], "%x:%x", &unsent, &unread); err != nil {
				c.t.Fatal(err)
			}
			return unsent, unread
		}
	}
	c.t.Fatal("the socket is not in the kernel's table")
	return 0, 0
}

// kernelKeeps is the most that the kernel may keep in each direction: a quarter of a megabyte, and
// a segment of 64 KiB that it may take beyond.
const kernelKeeps = 320 << 10

// Messages for a client that does not read wait in its outbox, where policies and budgets see them,
// and not in the kernel.
func TestKernelKeepsLittleForAClientThatDoesNotRead(t *testing.T) {
	eachKernel(t, func(t *testing.T, b *bed) {
		c := b.upgrade("user=slow", "")
		b.waitAttached(1)
		floodUntil(t, b, overflow.DropNewest, func(f flood) bool { return f.dropped() >= 1 })
		unsent, _ := c.kernelHas()
		if unsent > kernelKeeps || unsent == 0 {
			t.Errorf("the kernel keeps %d bytes, want at most %d", unsent, kernelKeeps)
		}
		if queued := b.infos()[0].QueuedBytes; queued < hub.DefaultConfig().Outbox.Bytes/2 {
			t.Errorf("%d bytes are in the outbox", queued)
		}
	})
}

// eachKernel is eachSocket, also with a goroutine for each link.
func eachKernel(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	eachSocket(t, test, setups...)
	goroutinePerLink = true
	defer func() { goroutinePerLink = false }()
	t.Run("goroutine", func(t *testing.T) { eachSocket(t, test, setups...) })
}

// sated is a protocol that takes so many bytes quickly, and then none until it may.
type sated struct {
	plain.Protocol

	taken *atomic.Int64
	most  int64
	goOn  chan struct{}
}

func (p sated) Receive(_ *hub.Connection, _ hub.PayloadKind, payload []byte) error {
	if p.taken.Add(int64(len(payload))) > p.most {
		<-p.goOn
	}
	return nil
}

// After a fast start of a client, the kernel expects more of it. When the hub reads no more, the
// client must stop soon.
func TestKernelKeepsLittleOfWhatTheHubDoesNotRead(t *testing.T) {
	p := &sated{most: 64 << 20}
	if testkit.RaceEnabled {
		p.most = 16 << 20
	}
	eachKernel(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		defer close(p.goOn)
		message := masked(0x82, string(make([]byte, 1<<20)))
		for {
			_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.conn.Write([]byte(message)); err != nil {
				break
			}
		}
		if _, unread := c.kernelHas(); unread > kernelKeeps || unread == 0 {
			t.Errorf("the kernel keeps %d bytes, want at most %d", unread, kernelKeeps)
		}
	}, func(_ *hub.Config, c *edge.Config) {
		p.taken, p.goOn = new(atomic.Int64), make(chan struct{})
		c.Plain = *p
	})
}
