package edge_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/internal/testkit"
)

// The hub takes each message of a client once, in order, in whatever pieces it arrives, and answers
// pings between messages.
func TestMessagesArriveHoweverTheyAreCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	eachSocket(t, func(t *testing.T, b *bed) { cutMessages(t, b, random) })
}

func cutMessages(t *testing.T, b *bed, random *rand.Rand) {
	t.Helper()
	c := b.upgrade("", "")
	b.waitAttached(1)
	sent, payloadBytes, pings := 0, 0, 0
	for range 300 {
		var stream strings.Builder
		for range 1 + random.IntN(3) {
			text := strings.Repeat("é", random.IntN([]int{4, 70, 3000, 40_000}[random.IntN(4)]))
			sent++
			payloadBytes += len(text)
			stream.WriteString(inFrames(random, text, &pings))
		}
		for rest := stream.String(); rest != ""; {
			piece := min(len(rest), 1+random.IntN([]int{2, 20, 5000, 100_000}[random.IntN(4)]))
			c.write(rest[:piece])
			rest = rest[piece:]
		}
	}
	for range pings {
		c.wantFrame(frame.Pong, "?")
	}
	labels := []string{"kind", "text", "protocol", "plain"}
	eventually(t, func() bool {
		return b.metric("connhub_client_messages_total", labels...) == float64(sent)
	})
	if got := b.metric("connhub_client_message_bytes_total",
		labels...); got != float64(payloadBytes) {
		t.Errorf("%v bytes, want %d", got, payloadBytes)
	}
}

// inFrames cuts a message into frames, with pings between them.
func inFrames(random *rand.Rand, text string, pings *int) string {
	var s strings.Builder
	first := byte(frame.Text)
	for {
		if random.IntN(3) == 0 {
			*pings++
			s.WriteString(masked(0x80|byte(frame.Ping), "?"))
		}
		cut := random.IntN(len(text) + 1)
		if random.IntN(2) == 0 {
			s.WriteString(masked(0x80|first, text))
			return s.String()
		}
		s.WriteString(masked(first, text[:cut]))
		text, first = text[cut:], byte(frame.Continuation)
	}
}

// A client that begins a message and does not end it is closed, however little it sent.
func TestHalfMessagesEndInTime(t *testing.T) {
	whole := masked(0x82, strings.Repeat("x", 300))
	large := masked(0x82, strings.Repeat("x", 20_000))
	for name, half := range map[string]string{
		"half a header":          whole[:1],
		"half a small message":   whole[:200],
		"half a large message":   large[:5000],
		"one fragment of two":    masked(0x02, "one"),
		"behind whole messages":  whole + whole + whole[:3],
		"half a control frame":   masked(0x89, "ping")[:4],
		"between two fragments":  masked(0x02, "one") + masked(0x89, "")[:3],
		"a header in two pieces": large[:3],
	} {
		t.Run(name, func(t *testing.T) {
			if goroutinePerLink && (len(half) < 2 || half[0] == 0x89 ||
				name == "a header in two pieces" || name == "behind whole messages") {
				return // a goroutine does not know that there is something before it has a header
			}
			eachSocket(t, func(t *testing.T, b *bed) {
				c := b.upgrade("", "")
				b.waitAttached(1)
				c.write(half)
				if end := c.end(); end.code != 1008 || end.err != nil {
					t.Errorf("ended with %+v", end)
				}
				waitUntilEmpty(b)
				if diff := cmp.Diff([]cause.CloseStatus{cause.SlowMessage.CloseStatus()},
					b.causes.all()); diff != "" {
					t.Errorf("closes (-want +got):\n%s", diff)
				}
			}, func(_ *hub.Config, c *edge.Config) { c.MessageTimeout = 100 * time.Millisecond })
		})
	}
}

// For a broken record TLS sends an alert by itself, behind the sent bytes. The link ends, and
// further links notice nothing.
func TestBrokenRecordEndsItsLinkAlone(t *testing.T) {
	b := overTLS(t, shortClose)
	bad, other := b.upgrade("", ""), b.upgrade("", "")
	b.waitAttached(2)
	b.send(everyone, hub.Text, "before")
	bad.wantFrame(frame.Text, "before")
	if _, err := bad.socket().Write(append([]byte{23, 3, 3, 0, 32},
		make([]byte, 32)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return b.hub.Len() == 1 && b.metric("connhub_links") == 1 })
	b.send(everyone, hub.Text, "after")
	other.wantFrame(frame.Text, "before")
	other.wantFrame(frame.Text, "after")
}

// A thousand links that a single call closes end soon. Links of clients that don't answer end after
// CloseTimeout.
func TestManyLinksEndInSeconds(t *testing.T) {
	clients := 1000
	if testkit.RaceEnabled {
		clients = 250
	}
	eachSocket(t, func(t *testing.T, b *bed) {
		for i := range clients {
			b.upgrade(fmt.Sprintf("user=%d", i), "")
		}
		b.waitAttached(clients)
		meter := testkit.NewMeter()
		defer meter.Stop()
		began := time.Now()
		closeEveryone(t, b)
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
		if took := time.Since(began); took > meter.Limit(5*time.Second) {
			t.Errorf("%d links took %v", clients, took)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.CloseTimeout = time.Second })
}
