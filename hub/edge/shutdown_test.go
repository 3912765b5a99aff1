package edge_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/internal/testkit"
)

// trickle sends the bytes of text one at a time, without a pause. It returns when the connection
// takes no more, or all are sent. begun is called when the first bytes are sent.
func trickle(conn net.Conn, text string, begun func()) {
	for i := range len(text) {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		if i == 100 {
			begun()
		}
	}
}

// Heads of TLS records with 16 KiB (RFC 8446 §5.1).
const (
	handshakeRecord   = "\x16\x03\x01\x40\x00"
	applicationRecord = "\x17\x03\x03\x40\x00"
)

// A stranger that keeps the hub waiting can't delay the end of the hub, however it does that.
func TestStrangersDoNotDelayShutdown(t *testing.T) {
	l, config := listen(t), certificate()
	b := newBed(t, edge.NewTLSListener(l, config), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}, func(_ *hub.Config, c *edge.Config) { c.HandshakeTimeout = time.Hour })
	defer b.done()
	secure := func() *raw {
		c := b.connect()
		if err := tls.Client(c.conn, &tls.Config{
			RootCAs: config.RootCAs, ServerName: "hub.test",
		}).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var senders, begun sync.WaitGroup
	defer senders.Wait()
	for range 30 {
		b.connect()
		secure()
		// The hub reads these records, and finds no byte of a request in them.
		most := strings.Repeat("x", 16_000)
		begun.Add(2)
		for conn, head := range map[net.Conn]string{
			b.connect().conn: handshakeRecord, secure().conn: applicationRecord,
		} {
			senders.Go(func() { trickle(conn, head+most, begun.Done) })
		}
	}
	begun.Wait()
	meter := testkit.NewMeter()
	defer meter.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.done()
	}()
	if !meter.Within(2*time.Second, ended) {
		t.Error("Shutdown waits for strangers")
	}
	<-ended
}
