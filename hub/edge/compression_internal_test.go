package edge

import (
	"compress/flate"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
)

// prefixed is a numbered protocol whose prefix is a text of its own.
type prefixed struct {
	Protocol

	prefix string
}

func (prefixed) Encode(m *hub.Message, _ hub.Route) []byte { return m.Payload }

func (p prefixed) AppendPrefix(dst []byte, _ uint64, shared []byte) []byte {
	return append(frame.AppendHeader(dst, frame.Text, true, len(p.prefix)+len(shared)), p.prefix...)
}

func (prefixed) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte { return dst }

// Any prefix and any shared bytes together are a single frame, which inflates to both.
func TestPrefixAndSharedBytesAreOneCompressedMessage(t *testing.T) {
	m := unregisteredMetrics()
	rapid.Check(t, func(t *rapid.T) {
		// The alphabet is small, or nothing would ever be worth compressing.
		payload := strings.Repeat(rapid.StringMatching(`[a-c]{0,40}`).Draw(t, "piece"),
			rapid.IntRange(0, 4000).Draw(t, "times"))
		p := prefixed{prefix: rapid.String().Draw(t, "prefix")}
		d := deflatedNumbered{deflated{p, m}, p}
		shared := d.Encode(&hub.Message{Payload: []byte(payload)}, hub.Route{})
		behind := rapid.SliceOf(rapid.Byte()).Draw(t, "behind")
		unit := append(d.AppendPrefix(append([]byte(nil), behind...), 1, shared),
			shared...)[len(behind):]

		f, ok := frame.ParseHeader(unit)
		if !ok || f.Opcode != frame.Text || !f.Final || !f.Compressed ||
			f.Size != uint64(len(unit)) {
			t.Fatalf("frame %+v of %d bytes", f, len(unit))
		}
		text, err := io.ReadAll(flate.NewReader(strings.NewReader(string(unit[f.Start:]) +
			"\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		if err != nil || string(text) != p.prefix+payload {
			t.Fatalf("%d bytes, %v; want %d and %d", len(text), err, len(p.prefix), len(payload))
		}
	})
}
