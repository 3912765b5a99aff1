package webpubsub_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

var toRoom = hub.Route{Kind: hub.RouteGroup, Group: "room:1"}

// BenchmarkEncode is the cost of a send once for all its connections.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{128, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			m := &hub.Message{
				Kind: hub.Text, Payload: bytes.Repeat([]byte("lorem ip"), size/8),
				Sender: hub.Sender{User: "ann"},
			}
			p := framing.WebSocket(webpubsub.ReliableJSON{})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.Encode(m, toRoom)
			}
		})
	}
}

// BenchmarkAppendPrefix is the cost for each connection besides.
func BenchmarkAppendPrefix(b *testing.B) {
	p := framing.WebSocket(webpubsub.ReliableJSON{}).(hub.Numbered)
	shared := make([]byte, 200)
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for n := uint64(1); b.Loop(); n++ {
		p.AppendPrefix(dst, n, shared)
	}
}

// BenchmarkReceive is a command of a client, up to Publish.
func BenchmarkReceive(b *testing.B) {
	bed := newBed(b)
	p := webpubsub.ReliableJSON{JSON: webpubsub.JSON{Publisher: &watcher{}}}
	c := bed.connect(b, p, "ann")
	text := bytes.Repeat([]byte("lorem ip"), 128/8)
	for _, bc := range []struct{ name, message string }{
		{"sendToGroup", fmt.Sprintf(
			`{"type":"sendToGroup","group":"room:1","noEcho":true,"dataType":"text","data":"%s"}`,
			text,
		)},
		{"event", fmt.Sprintf(`{"type":"event","event":"e","dataType":"text","data":"%s"}`, text)},
		{"sequenceAck", `{"type":"sequenceAck","sequenceId":0}`},
		{"ping", `{"type":"ping"}`},
	} {
		b.Run(bc.name, func(b *testing.B) { benchmarkReceive(b, c, p, []byte(bc.message)) })
	}
}

func benchmarkReceive(b *testing.B, c *client, p edge.Protocol, message []byte) {
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Receive(c.Connection, hub.Text, message); err != nil {
			b.Fatal(err)
		}
		c.wire.bytes = c.wire.bytes[:0]
	}
}
