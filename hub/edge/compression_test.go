package edge_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// compressing is a setup.
func compressing(_ *hub.Config, c *edge.Config) { c.Compression = true }

// deflated is a payload as a client sends it compressed (RFC 7692 §7.2.1).
func deflated(payload string) string { return strings.TrimSuffix(flushed(payload), flushMark) }

// flushMark is the end of a compressor's flushed output: an empty block (RFC 7692 §7.2.1).
const flushMark = "\x00\x00\xff\xff"

// compressors are kept: each takes 1.2 MB, and longer to make than a small message to compress.
var compressors = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression)
	return w
}}

// flushed is a payload compressed in whole blocks, which refer to nothing in front of them.
func flushed(payload string) string {
	var b bytes.Buffer
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&b)
	_, _ = io.WriteString(w, payload)
	_ = w.Flush()
	return b.String()
}

// inflated unpacks a payload (§7.2.2) all by itself.
func inflated(t *testing.T, payload string) string {
	t.Helper()
	b, err := io.ReadAll(
		flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	if err != nil {
		t.Fatalf("inflate %d bytes: %v", len(payload), err)
	}
	return string(b)
}

// text reads a text frame, compressed or not.
func (c *raw) text() (payload string, compressed bool) {
	c.t.Helper()
	f, err := c.frame()
	if err != nil || f.opcode != frame.Text || !f.fin {
		c.t.Fatalf("got %+v, %v", f, err)
	}
	if f.compressed {
		f.payload = inflated(c.t, f.payload)
	}
	return f.payload, f.compressed
}

const offer = extensionHeader + "permessage-deflate; client_max_window_bits\r\n\r\n"

const extensionHeader = "Sec-WebSocket-Extensions: "

// In each compression mode of the client, it gets the sent messages, small or large, and the hub
// gets the client's messages.
func TestCompressedMessagesArriveInBothDirections(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		for _, mode := range []websocket.CompressionMode{
			websocket.CompressionNoContextTakeover,
			websocket.CompressionContextTakeover,
		} {
			for _, subprotocol := range []string{"", envelope.Name} {
				bothDirections(t, b, mode, subprotocol)
			}
		}
	}, compressing)
}

func bothDirections(t *testing.T, b *bed, mode websocket.CompressionMode, subprotocol string) {
	t.Helper()
	c, response, err := websocket.Dial(t.Context(), "ws://hub.test/ws?user=ann",
		&websocket.DialOptions{
			HTTPClient: b.client, CompressionMode: mode, CompressionThreshold: 1,
			Subprotocols: []string{subprotocol},
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	if got := response.Header.Get("Sec-WebSocket-Extensions"); !strings.Contains(got,
		"server_no_context_takeover") {
		t.Fatalf("agreed to %q", got)
	}
	if subprotocol != "" {
		read(t, c) // the greeting
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte('!' + rand.IntN(90))
	}
	for _, payload := range []string{
		"", "x", strings.Repeat("small ", 20),
		strings.Repeat("large ", 1000), strings.Repeat("huge ", 200_000), string(noise),
	} {
		b.send(hub.Target{Users: []string{"ann"}}, hub.Text, payload)
		kind, got := read(t, c)
		if subprotocol != "" {
			var envelope struct{ Data string }
			if err := json.Unmarshal([]byte(got), &envelope); err != nil {
				t.Error(err)
			}
			got = envelope.Data
		}
		if kind != websocket.MessageText || got != payload {
			t.Errorf("%v of %d bytes arrived, want %d", kind, len(got), len(payload))
		}
		before := b.received(subprotocol)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(payload)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			return b.received(subprotocol) == before+float64(len(payload))
		})
	}
}

// received is how many bytes of text clients sent.
func (b *bed) received(subprotocol string) float64 {
	b.t.Helper()
	return b.metric("connhub_client_message_bytes_total", "kind", "text", "protocol",
		orPlain(subprotocol))
}

func orPlain(subprotocol string) string {
	if subprotocol == "" {
		return plain.Name
	}
	return subprotocol
}

// A single compression serves all clients that agreed to it. A client that did not agree gets the
// plain message.
func TestMessageToManyIsCompressedOnce(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		var clients []*raw
		for range 20 {
			c, header := b.upgradeWith("", offer)
			want := "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
			if header.Get("Sec-WebSocket-Extensions") != want {
				t.Fatalf("answered %q", header.Get("Sec-WebSocket-Extensions"))
			}
			clients = append(clients, c)
		}
		without := b.upgrade("", "")
		b.waitAttached(21)
		payload := strings.Repeat("to everyone ", 100)
		if r := b.send(everyone, hub.Text, payload); r.Matched != 21 {
			t.Errorf("receipt %+v", r)
		}
		for _, c := range clients {
			if got, compressed := c.text(); got != payload || !compressed {
				t.Errorf("got %d bytes, compressed: %t", len(got), compressed)
			}
		}
		if got, compressed := without.text(); got != payload || compressed {
			t.Errorf("without: got %d bytes, compressed: %t", len(got), compressed)
		}
		if in := b.metric("connhub_deflate_input_bytes_total"); in != float64(len(payload)) {
			t.Errorf("compressed %v bytes, want %d", in, len(payload))
		}
		if out := b.metric("connhub_deflate_output_bytes_total"); out >= float64(len(payload)/10) {
			t.Errorf("to %v bytes", out)
		}
		b.send(everyone, hub.Text, "short")
		for _, c := range clients {
			c.wantFrame(frame.Text, "short")
		}
	}, compressing)
}

func TestOffersOfCompressionAreAnsweredAsRFC7692Says(t *testing.T) {
	b := overTCP(t, compressing)
	for offer, want := range map[string]bool{
		"":                   false,
		"permessage-deflate": true,
		"permessage-deflate; client_max_window_bits":                                        true,
		`permessage-deflate; client_max_window_bits="12"`:                                   true,
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover":        true,
		"permessage-deflate; server_max_window_bits=15":                                     false,
		"permessage-deflate; server_max_window_bits=10":                                     false,
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":                 true,
		"permessage-deflate; server_max_window_bits":                                        false,
		"permessage-deflate; client_max_window_bits=7":                                      false,
		"permessage-deflate; client_max_window_bits=012":                                    false,
		"permessage-deflate; server_no_context_takeover=1":                                  false,
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover":        false,
		"permessage-deflate; something_else":                                                false,
		"permessage-deflate;":                                                               false,
		"x-webkit-deflate-frame":                                                            false,
		"x-webkit-deflate-frame, permessage-deflate; client_no_context_takeover, something": true,
	} {
		c, header := b.upgradeWith("", extensionHeader+offer+"\r\n\r\n")
		b.waitAttached(1)
		answer := ""
		if want {
			answer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
		}
		if got := header.Get("Sec-WebSocket-Extensions"); got != answer {
			t.Errorf("%q: answered %q", offer, got)
		}
		payload := strings.Repeat("again ", 100)
		b.send(everyone, hub.Text, payload)
		if got, compressed := c.text(); got != payload || compressed != want {
			t.Errorf("%q: got %d bytes, compressed: %t", offer, len(got), compressed)
		}
		_ = c.conn.Close()
		waitUntilEmpty(b)
	}
}

// Without Config.Compression the hub agrees to no compression, and a compressed frame is a
// violation.
func TestCompressionIsOffUnlessConfigured(t *testing.T) {
	b := overTCP(t)
	c, header := b.upgradeWith("", offer)
	if got := header.Values("Sec-WebSocket-Extensions"); len(got) != 0 {
		t.Errorf("answered %q", got)
	}
	c.write(masked(0xC1, deflated("hello")))
	c.wantEnd(1002, "")
}

// Compressed messages come in all pieces, with fragments and pings. The hub takes each once.
// Clients with forbidden frames are closed.
func TestCompressedMessagesArriveHoweverTheyAreCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	eachSocket(t, func(t *testing.T, b *bed) {
		c, _ := b.upgradeWith("", offer)
		b.waitAttached(1)
		sent := 0
		for range 200 {
			text := strings.Repeat("é", random.IntN([]int{4, 70, 3000, 40_000}[random.IntN(4)]))
			sent += len(text)
			whole := deflated(text)
			cut := random.IntN(len(whole) + 1)
			stream := masked(0xC1, whole)
			if random.IntN(2) == 0 {
				stream = masked(0x41, whole[:cut]) + masked(0x89, "") + masked(0x80, whole[cut:])
			}
			for stream != "" {
				piece := min(len(stream), 1+random.IntN([]int{2, 20, 5000}[random.IntN(3)]))
				c.write(stream[:piece])
				stream = stream[piece:]
			}
		}
		eventually(t, func() bool { return b.received("") == float64(sent) })
	}, compressing)
}

// bomb returns a small frame whose message has 50,000,000 bytes. It repeats the blocks of a million
// bytes, because compressing all of them takes seconds under the race detector.
func bomb() string {
	million := flushed(strings.Repeat("0", 1_000_000))
	return masked(0xC1, strings.TrimSuffix(strings.Repeat(million, 50), flushMark))
}

func TestCompressedViolationsEndTheirLinkAlone(t *testing.T) {
	const limit = 100_000
	eachSocket(t, func(t *testing.T, b *bed) {
		for name, tc := range map[string]struct {
			sent string
			code uint16
		}{
			"a bomb":            {bomb(), 1009},
			"one byte too many": {masked(0xC2, deflated(strings.Repeat("0", limit+1))), 1009},
			"not deflate":       {masked(0xC1, "\xff\xff\xff\xff"), 1002},
			"not UTF-8":         {masked(0xC1, deflated("\xc0\x80")), 1007},
			"cut character":     {masked(0xC1, deflated("caf\xc3")), 1007},
			"compressed ping":   {masked(0xC9, ""), 1002},
			"compressed fragment": {masked(0x41, deflated("ab")[:2]) +
				masked(0xC0, deflated("ab")[2:]), 1002},
			"RSV2": {masked(0xA1, "x"), 1002},
		} {
			t.Run(name, func(t *testing.T) {
				other, _ := b.upgradeWith("user=other", offer)
				c, _ := b.upgradeWith("", offer)
				b.waitAttached(2)
				c.write(tc.sent)
				c.wantEnd(tc.code, "")
				_ = c.conn.Close()
				b.waitAttached(1)
				payload := strings.Repeat("still here ", 50)
				b.send(everyone, hub.Text, payload)
				if got, _ := other.text(); got != payload {
					t.Errorf("the other got %d bytes", len(got))
				}
				before := b.received("")
				other.write(masked(0xC1, deflated(strings.Repeat("1", limit))))
				eventually(t, func() bool { return b.received("") == before+limit })
				_ = other.conn.Close()
				waitUntilEmpty(b)
			})
		}
	}, compressing, func(_ *hub.Config, c *edge.Config) {
		c.MaxMessage = limit
		c.InboundBytes = 4 * limit
	})
}

// A client that keeps the window of its earlier messages, though the hub declined that, learns this
// reason.
func TestClientWithContextTakeoverIsToldThatItWasDeclined(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		c, _ := b.upgradeWith("", offer)
		b.waitAttached(1)
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("what was said before is said again; ", 20)
		for range 2 {
			_, _ = w.Write([]byte(text)) // a bytes.Buffer takes everything
			_ = w.Flush()
			c.write(masked(0xC1, strings.TrimSuffix(out.String(), "\x00\x00\xff\xff")))
			out.Reset()
		}
		c.wantEnd(1002, "context takeover was not agreed to")
		eventually(t, func() bool { return b.received("") == float64(len(text)) })
	}, compressing)
}

// A compressed message that never ends holds its share of the budget, with the decompressor, and
// ends in time.
func TestUnfinishedCompressedMessagesShareTheBudget(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		var clients []*raw
		for range 10 {
			c, _ := b.upgradeWith("", offer)
			clients = append(clients, c)
		}
		b.waitAttached(len(clients))
		for _, c := range clients {
			c.write(masked(0x41, deflated(strings.Repeat("z", 5000))))
		}
		codes := map[uint16]int{}
		for _, c := range clients {
			codes[c.end().code]++
		}
		waitUntilEmpty(b)
		if codes[1008]+codes[1013] != len(clients) || codes[1008] == 0 ||
			codes[1013] == 0 && !goroutinePerLink {
			t.Errorf("closed with %v", codes)
		}
	}, compressing, func(_ *hub.Config, c *edge.Config) {
		c.MaxMessage, c.InboundBytes, c.MessageTimeout = 200_000, 200_000, 100*time.Millisecond
	})
}

// counted is a numbered protocol: the sequence id stands in the message.
type counted struct{ plain.Protocol }

var _ protocol.Numbered = counted{}

func (counted) Name() string { return "counted.test" }

func (counted) AppendMessage(
	dst []byte, m *hub.Message, _ hub.Route,
) ([]byte, hub.PayloadKind) {
	return append(append(append(dst, `"data":"`...), m.Payload...), `"}`...), hub.Text
}

func (counted) Numbering() protocol.Numbering {
	return protocol.Numbering{Kind: hub.Text, Before: `{"sequence":`, After: ","}
}

func (counted) AppendGreeting(
	dst []byte, _ hub.Info, _ string,
) ([]byte, hub.PayloadKind) {
	return append(dst, "hello"...), hub.Text
}

// The number of each connection and the shared rest are together a valid compressed message.
func TestNumberedMessagesShareTheirCompressedRest(t *testing.T) {
	eachSocket(t, func(_ *testing.T, b *bed) {
		names := http.Header{"Sec-WebSocket-Protocol": {counted{}.Name()}}
		var request strings.Builder
		_ = names.Write(&request)
		early, _ := b.upgradeWith("user=early", request.String()+offer)
		early.wantFrame(frame.Text, "hello")
		b.waitAttached(1)
		for i := range 300 {
			b.send(everyone, hub.Text, strings.Repeat("e", i))
		}
		late, _ := b.upgradeWith("user=late", request.String()+offer)
		late.wantFrame(frame.Text, "hello")
		b.waitAttached(2)
		sizes := []int{0, 1, 200, 300, 70_000, 1_000_000}
		for _, n := range sizes {
			b.send(everyone, hub.Text, strings.Repeat("both ", n/5))
			b.send(everyone, hub.Text, noiseOf(n))
		}
		for i := range 300 {
			early.wantCounted(i+1, strings.Repeat("e", i))
		}
		for i, n := range sizes {
			for c, first := range map[*raw]int{early: 301, late: 1} {
				c.wantCounted(first+2*i, strings.Repeat("both ", n/5))
				c.wantCounted(first+2*i+1, noiseOf(n))
			}
		}
	}, compressing, func(_ *hub.Config, c *edge.Config) {
		c.Protocols = []edge.Protocol{counted{}}
	})
}

// noises keeps the texts of noiseOf by their lengths.
var noises sync.Map

// noiseOf returns text that hardly gets smaller, always the same.
func noiseOf(n int) string {
	if known, ok := noises.Load(n); ok {
		return known.(string)
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('(' + random.IntN(50))
	}
	text := strings.ReplaceAll(string(b), `\`, "_")
	noises.Store(n, text)
	return text
}

func (c *raw) wantCounted(sequence int, data string) {
	c.t.Helper()
	got, compressed := c.text()
	if want := fmt.Sprintf(`{"sequence":%d,"data":"%s"}`, sequence, data); got != want ||
		!compressed {
		c.t.Fatalf("compressed %t, got %d bytes %.60s; want %d %.60s", compressed, len(got), got,
			len(want), want)
	}
}
