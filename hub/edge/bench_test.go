package edge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
)

// BenchmarkFanOut sends a message of 128 bytes to 1,000 clients over loopback TCP. An op is a whole
// fan-out, ns/delivery the share of a client. Clients read in the same process, which the figure
// includes.
func BenchmarkFanOut(b *testing.B) {
	const clients = 1000
	hc := hub.DefaultConfig()
	hc.ID = hub.NewID()
	h, err := hub.New(hc)
	if err != nil {
		b.Fatal(err)
	}
	ec := edge.DefaultConfig()
	ec.Hub, ec.Anonymous, ec.Plain = h, true, plain.Protocol{}
	s, err := edge.New(ec)
	if err != nil {
		b.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	b.Cleanup(func() {
		_ = h.Shutdown(context.Background())
		_ = s.Shutdown(context.Background())
	})
	for range clients {
		reader(b, l.Addr().String())
	}
	m := &hub.Message{Namespace: hub.DefaultNamespace, Kind: hub.Text, Payload: make([]byte, 128)}
	b.ReportAllocs()
	for b.Loop() {
		d, err := h.Deliver(b.Context(),
			&hub.Send{Message: m, Target: hub.Target{Everyone: true}, Wait: hub.WaitWritten})
		if err != nil {
			b.Fatal(err)
		}
		d.Wait(b.Context())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/clients, "ns/delivery")
}

// reader connects a client that reads and forgets until the hub hangs up.
func reader(b *testing.B, address string) {
	b.Helper()
	var d net.Dialer
	conn, err := d.DialContext(b.Context(), "tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\n"+upgradeHeader+"\r\n"); err != nil {
		b.Fatal(err)
	}
	head := make([]byte, 512)
	n, err := conn.Read(head)
	if err != nil || string(head[:min(n, 12)]) != "HTTP/1.1 101" {
		b.Fatalf("answer %q, %v (want status %d)", head[:n], err, http.StatusSwitchingProtocols)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				_ = conn.Close()
				return
			}
		}
	}()
}
