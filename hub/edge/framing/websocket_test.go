package framing

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// bare is a protocol without greeting and goodbye. Each message is its payload.
type bare struct{ protocol.Protocol }

func (bare) AppendMessage(
	dst []byte, m *hub.Message, _ hub.Route,
) ([]byte, hub.PayloadKind) {
	return append(dst, m.Payload...), m.Kind
}

// wantFrame checks that b is a single frame, final and not compressed, with this payload.
func wantFrame(t *testing.T, b []byte, opcode frame.Opcode, payload string) {
	t.Helper()
	if want := frame.Append(nil, opcode, []byte(payload)); !bytes.Equal(b, want) {
		t.Errorf("%d bytes % x ..., want %d % x ...", len(b), b[:min(len(b), 12)],
			len(want), want[:min(len(want), 12)])
	}
}

// lengths of messages with each form of the header, and around them.
var lengths = []int{0, 1, 125, 126, minCompressed - 1, 65_535, 65_536, hub.MaxPayload}

func TestEachMessageIsOneFrame(t *testing.T) {
	counted := func(int, int) { t.Error("noise was compressed") }
	for _, j := range []Framed{WebSocket(bare{}), Deflate(bare{}, counted)} {
		for _, n := range lengths {
			payload := noise(n)
			for kind, opcode := range map[hub.PayloadKind]frame.Opcode{
				hub.Text: frame.Text, hub.JSON: frame.Text,
				hub.Binary: frame.Binary, hub.Protobuf: frame.Binary,
			} {
				m := &hub.Message{Kind: kind, Payload: []byte(payload)}
				wantFrame(t, j.Encode(m, hub.Route{}), opcode, payload)
			}
			dst := j.AppendReply([]byte("before"), hub.Binary, []byte(payload))
			if !bytes.HasPrefix(dst, []byte("before")) {
				t.Fatalf("appended to % x ...", dst[:6])
			}
			wantFrame(t, dst[len("before"):], frame.Binary, payload)
		}
	}
	if !bytes.Equal(headroom, make([]byte, frame.MaxHeader)) {
		t.Errorf("the shared room for headers was written to: % x", headroom)
	}
}

func TestPrefixAndSharedBytesAreOneFrame(t *testing.T) {
	j := WebSocket(prefixed{before: "<", after: ">"}).(hub.Numbered)
	for _, n := range lengths {
		payload := noise(n)
		shared := j.Encode(&hub.Message{Kind: hub.Text, Payload: []byte(payload)}, hub.Route{})
		for _, sequence := range []uint64{1, 9, 10, 1<<64 - 1} {
			b := append(j.AppendPrefix(nil, sequence, shared), shared...)
			wantFrame(t, b, frame.Text, fmt.Sprint("<", sequence, ">", payload))
		}
	}
}

func TestProtocolWithoutGreetingAndGoodbyeSaysNothing(t *testing.T) {
	for _, j := range []Framed{WebSocket(bare{}), Deflate(bare{}, nil)} {
		if got := j.AppendGreeting(nil, hub.Info{}, ""); got != nil {
			t.Errorf("greeted with %q", got)
		}
		if got := j.AppendGoodbye(nil, cause.Lost.CloseStatus()); got != nil {
			t.Errorf("said goodbye with %q", got)
		}
		if _, numbered := j.(hub.Numbered); numbered {
			t.Error("numbered")
		}
	}
}

// noise returns text of a length that does not get smaller by compression.
func noise(length int) string {
	var b strings.Builder
	for x := uint64(1); b.Len() < length; {
		x = x*6364136223846793005 + 1442695040888963407
		_ = b.WriteByte(byte(x >> 33))
	}
	return b.String()
}
