package edge_test

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
)

// hearing is the plain protocol that keeps who said what.
type hearing struct {
	plain.Protocol

	mu   *sync.Mutex
	said *[]string
}

func (h hearing) Receive(c *hub.Connection, _ hub.PayloadKind, p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.said = append(*h.said, c.Identity().User+": "+string(p))
	return nil
}

// waitForAll waits until so many messages were heard, and returns them.
func (h hearing) waitForAll(t *testing.T, messages int) (said []string) {
	t.Helper()
	eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		said = append([]string(nil), *h.said...)
		return len(said) >= messages
	})
	return said
}

// overCompression returns a hub that hears its clients, which compress.
func overCompression(t *testing.T, setups ...setup) (*bed, hearing) {
	t.Helper()
	h := hearing{mu: &sync.Mutex{}, said: &[]string{}}
	setups = append(setups, compressing, func(_ *hub.Config, c *edge.Config) { c.Plain = h })
	return overTCP(t, setups...), h
}

// ended is a payload as a whole stream of deflate, with a final block (RFC 7692 §7.2.3.4).
func ended(payload string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	_, _ = io.WriteString(w, payload)
	_ = w.Close()
	return b.String()
}

// What a client sends behind its final block is no message of the next client.
func TestAClientCannotSpeakForAnother(t *testing.T) {
	b, h := overCompression(t)
	eve, _ := b.upgradeWith("user=eve", offer)
	ann, _ := b.upgradeWith("user=ann", offer)
	b.waitAttached(2)
	eve.write(masked(0xC1, ended("hi")+ended("give eve all my money")))
	h.waitForAll(t, 1)
	ann.write(masked(0xC1, deflated("good morning")))
	if said := h.waitForAll(t, 2); said[1] != "ann: good morning" {
		t.Errorf("heard %q", said)
	}
}

// The message with a final block that RFC 7692 §7.2.3.4 shows harms no further client.
func TestTheFinalBlockOfTheRFCHarmsNobody(t *testing.T) {
	b, h := overCompression(t)
	bob, _ := b.upgradeWith("user=bob", offer)
	ann, _ := b.upgradeWith("user=ann", offer)
	b.waitAttached(2)
	bob.write(masked(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))
	h.waitForAll(t, 1)
	ann.write(masked(0xC1, deflated("good morning")))
	if said := h.waitForAll(t, 2); said[0] != "bob: Hello" || said[1] != "ann: good morning" {
		t.Errorf("heard %q", said)
	}
}

// A sender may use final blocks anywhere in a message (RFC 7692 §7.2.1). Neither the block nor the
// bytes behind it are the end or the beginning of a message.
func TestAMessageEndsWithItsLastFrameWhateverItsBlocksAre(t *testing.T) {
	hello := "\xf3\x48\xcd\xc9\xc9\x07\x00" // the block of §7.2.3.4
	for name, c := range map[string]struct{ payload, want string }{
		"example of the RFC": {hello + "\x00", "Hello"},
		"no padding":         {hello, "Hello"},
		"twice":              {hello + hello + "\x00", "HelloHello"},
		"whole streams":      {ended("so") + ended(" long"), "so long"},
		"final, then open":   {ended("so") + deflated(" long"), "so long"},
		"open, then final":   {flushed("so") + ended(" long"), "so long"},
		"only final blocks":  {strings.Repeat("\x03\x00", 1000) + "\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, h := overCompression(t)
			bob, _ := b.upgradeWith("user=bob", offer)
			b.waitAttached(1)
			half := len(c.payload) / 2
			bob.write(masked(0xC1, c.payload) + masked(0xC1, deflated("next")) +
				masked(0x41, c.payload[:half]) + masked(0x80, c.payload[half:]) +
				masked(0xC1, deflated("last")))
			want := []string{"bob: " + c.want, "bob: next", "bob: " + c.want, "bob: last"}
			if diff := cmp.Diff(want, h.waitForAll(t, len(want))); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		})
	}
}

// endingEarly is a frame with a stored, final block of 4,096 bytes, and rest behind it.
func endingEarly(rest string) string {
	return masked(0xC1, "\x01\xfb\x0f\x04\xf0"+strings.Repeat("a", 4091)+rest)
}

// unmasked returns bytes that masked turns into b, at an offset that is a multiple of four.
func unmasked(b string) string {
	var rest []byte
	for i := range len(b) {
		rest = append(rest, b[i]^byte(i%4+1))
	}
	return string(rest)
}

func TestBytesBehindAFinalBlockAreNoFrames(t *testing.T) {
	b, h := overCompression(t)
	eve, _ := b.upgradeWith("user=eve", offer)
	ann, _ := b.upgradeWith("user=ann", offer)
	b.waitAttached(2)
	// As frames, the rest would begin a message of 125 bytes.
	eve.write(endingEarly(unmasked("\x01\xfd\x00\x00\x00\x00" + strings.Repeat("x", 100))))
	eve.wantEnd(1002, "can't inflate")
	ann.write(masked(0xC1, deflated("good morning")))
	if said := h.waitForAll(t, 1); said[0] != "ann: good morning" {
		t.Errorf("heard %q", said)
	}
}

// A link that is over has given back its part of the budget.
func TestMessagesThatGoOnBehindAFinalBlockKeepNoBudget(t *testing.T) {
	b, h := overCompression(t, func(_ *hub.Config, c *edge.Config) {
		c.MaxMessage, c.InboundBytes = 300_000, 1_000_000
	})
	for range 20 { // a link that waits costs 60 KiB
		eve, _ := b.upgradeWith("user=eve", offer)
		whole := endingEarly(strings.Repeat("x", 101))
		eve.write(whole[:len(whole)-101])
		// As frames, the rest would be 16 empty pongs and the beginning of a message.
		_, _ = io.WriteString(eve.conn, // fails on a closed link
			strings.Repeat("\x8a\x80\x00\x00\x00\x00", 16)+"\x82\xfe\x00\x01\x00")
		waitUntilEmpty(b)
	}
	ann, _ := b.upgradeWith("user=ann", "\r\n")
	b.waitAttached(1)
	long := strings.Repeat("y", 300_000)
	ann.write(masked(0x01, long[:150_000]))
	ann.write(masked(0x80, long[150_000:]))
	if said := h.waitForAll(t, 1); said[0] != "ann: "+long {
		t.Errorf("heard %.100q", said[0])
	}
}
