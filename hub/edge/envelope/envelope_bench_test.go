package envelope_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/framing"
)

// BenchmarkEncode is the cost of a send once for all its connections.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{128, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			m := &hub.Message{
				ID: "abcdefgh.1", Namespace: hub.DefaultNamespace, Event: "news", Kind: hub.Text,
				Payload: bytes.Repeat([]byte("lorem ip"), size/8),
			}
			p := framing.WebSocket(envelope.Protocol{})
			key := p.RouteKey(hub.Route{Kind: hub.RouteGroup, Group: "room:1"})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.Encode(m, key)
			}
		})
	}
}
