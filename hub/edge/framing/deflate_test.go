package framing

import (
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// prefixed is a numbered protocol with texts of its own around the number.
type prefixed struct {
	protocol.Numbered

	before, after string
}

func (prefixed) AppendMessage(
	dst []byte, m *hub.Message, _ hub.Route,
) ([]byte, hub.PayloadKind) {
	return append(dst, m.Payload...), m.Kind
}

func (p prefixed) Numbering() protocol.Numbering {
	return protocol.Numbering{Kind: hub.Text, Before: p.before, After: p.after}
}

// Any prefix and any shared bytes together are a single frame, which inflates to both.
func TestPrefixAndSharedBytesAreOneCompressedMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// The alphabet is small, or nothing would ever be worth compressing.
		payload := strings.Repeat(rapid.StringMatching(`[a-c]{0,40}`).Draw(t, "piece"),
			rapid.IntRange(0, 4000).Draw(t, "times"))
		p := prefixed{
			before: rapid.String().Draw(t, "before"), after: rapid.String().Draw(t, "after"),
		}
		sequence := rapid.Uint64().Draw(t, "sequence")
		prefix := fmt.Sprint(p.before, sequence, p.after)
		d := Deflate(p, func(plain, compressed int) {
			if plain != len(payload) || compressed >= plain {
				t.Fatalf("counted %d and %d bytes of %d", plain, compressed, len(payload))
			}
		}).(hub.Numbered)
		shared := d.Encode(&hub.Message{Payload: []byte(payload)}, hub.Route{})
		behind := rapid.SliceOf(rapid.Byte()).Draw(t, "behind")
		unit := append(d.AppendPrefix(append([]byte(nil), behind...), sequence, shared),
			shared...)[len(behind):]

		f, ok := frame.ParseHeader(unit)
		if !ok || f.Opcode != frame.Text || !f.Final || !f.Compressed ||
			f.Size != uint64(len(unit)) {
			t.Fatalf("frame %+v of %d bytes", f, len(unit))
		}
		text, err := io.ReadAll(flate.NewReader(strings.NewReader(string(unit[f.Start:]) +
			"\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		if err != nil || string(text) != prefix+payload {
			t.Fatalf("%d bytes, %v; want %d and %d", len(text), err, len(prefix), len(payload))
		}
	})
}
