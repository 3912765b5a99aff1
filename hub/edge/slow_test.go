package edge_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/testkit"
)

// fill is a message that sockets' buffers hold only a few of.
var fill = strings.Repeat("x", 256<<10)

// flood is the deliveries to a slow client.
type flood []*hub.Delivery

// dropped is how many messages of the flood will not arrive.
func (f flood) dropped() int {
	n := 0
	for _, d := range f {
		for _, drop := range d.Receipt().Dropped {
			n += drop.Count
		}
	}
	return n
}

// floodUntil sends numbered messages to the user slow until ok.
func floodUntil(t *testing.T, b *bed, policy overflow.Policy, ok func(flood) bool) flood {
	t.Helper()
	var f flood
	for n := 0; !ok(f); n++ {
		if n == 500 {
			t.Fatal("500 messages were not enough")
		}
		d, err := b.hub.Deliver(t.Context(), &hub.Send{
			Message: &hub.Message{
				Namespace: hub.DefaultNamespace, Kind: hub.Text,
				Payload: []byte(strconv.Itoa(n) + " " + fill),
			},
			Target: hub.Target{Users: []string{"slow"}},
			Policy: policy,
		})
		if err != nil {
			t.Fatal(err)
		}
		f = append(f, d)
	}
	return f
}

func shortClose(_ *hub.Config, c *edge.Config) { c.CloseTimeout = 100 * time.Millisecond }

func TestSlowClientIsClosedWhenItsOutboxIsFullAndNobodyWaits(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		b.upgrade("user=slow", "")
		other := b.dial("user=other")
		b.waitAttached(2)
		meter := testkit.NewMeter()
		defer meter.Stop()
		began := time.Now()
		floodUntil(t, b, overflow.CloseSlow, func(flood) bool { return len(b.causes.all()) == 1 })
		if got := b.causes.all()[0]; got != cause.Slow.CloseStatus() {
			t.Errorf("closed with %+v", got)
		}
		if took := time.Since(began); took > meter.Limit(5*time.Second) {
			t.Errorf("sends took %v", took)
		}
		b.send(hub.Target{Users: []string{"other"}}, hub.Text, "hi")
		if _, got := read(t, other); got != "hi" {
			t.Errorf("other got %q", got)
		}
		eventually(t, func() bool { return b.metric("connhub_links") == 1 })
	}, shortClose)
}

func TestSlowClientThatReadsAgainGetsWholeFramesInOrder(t *testing.T) {
	for name, policy := range map[string]overflow.Policy{
		"drop oldest": overflow.DropOldest,
		"drop newest": overflow.DropNewest,
	} {
		eachSocket(t, func(t *testing.T, b *bed) {
			t.Log(name)
			c := b.upgrade("user=slow", "")
			b.waitAttached(1)
			sent := floodUntil(t, b, policy, func(f flood) bool { return f.dropped() >= 3 })
			// With the outbox full a ping must still be answered, between whole frames.
			c.write(masked(0x89, "alive"))
			pong, last := false, -1
			for got := 0; got < len(sent)-sent.dropped() || !pong; {
				f, err := c.frame()
				if err != nil {
					t.Fatalf("after %d messages of %d: %v", got, len(sent), err)
				}
				if f.opcode == frame.Pong {
					pong = true
					continue
				}
				number, rest, _ := strings.Cut(f.payload, " ")
				n, err := strconv.Atoi(number)
				if err != nil || n <= last || rest != fill {
					t.Fatalf("message %q after %d, %d bytes", number, last, len(rest))
				}
				got, last = got+1, n
			}
			if oldest := policy == overflow.DropOldest; oldest != (last == len(sent)-1) {
				t.Errorf("the last message that came is %d of %d", last, len(sent))
			}
		})
	}
}

// The client says goodbye while the writer is in the middle of a batch, and reads on.
func TestReceiptsCountWhatALeavingClientStillGets(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		c := b.upgrade("user=slow", "")
		b.waitAttached(1)
		sent := floodUntil(t, b, overflow.DropNewest, func(f flood) bool {
			return f.dropped() >= 1
		})
		c.write(masked(0x88, "\x03\xe8"))
		eventually(t, func() bool { return b.hub.Len() == 0 })
		got := 0
		for {
			f, err := c.frame()
			if err != nil || f.opcode == frame.Close {
				break
			}
			got++
		}
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
		if written := len(sent) - sent.dropped(); got != written {
			t.Errorf("the client got %d messages, receipts say %d", got, written)
		}
	})
}

func TestPingFloodDuringAFanOutKeepsFramesWhole(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		b.waitAttached(1)
		const pings, messages = 2000, 300
		text := strings.Repeat("y", 10_000)
		var senders sync.WaitGroup
		senders.Go(func() {
			for range pings {
				if _, err := c.conn.Write([]byte(masked(0x89, "flood"))); err != nil {
					t.Errorf("ping: %v", err)
					return
				}
			}
		})
		c.wantFrame(frame.Pong, "flood") // it has begun
		senders.Go(func() {
			for range messages {
				b.send(everyone, hub.Text, text)
			}
		})
		got := map[frame.Opcode]int{frame.Pong: 1}
		for got[frame.Text] < messages {
			f, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			if f.opcode == frame.Text && f.payload != text ||
				f.opcode == frame.Pong && f.payload != "flood" {
				t.Fatalf("broken frame: opcode %#x, %d bytes", byte(f.opcode), len(f.payload))
			}
			got[f.opcode]++
		}
		senders.Wait()
		if len(got) != 2 {
			t.Errorf("frames by opcode: %v", got)
		}
	})
}

func TestResetSocketIsKnownAsLost(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		b.waitAttached(1)
		c.reset()
		waitUntilEmpty(b)
		if diff := cmp.Diff([]cause.CloseStatus{cause.Lost.CloseStatus()},
			b.causes.all()); diff != "" {
			t.Errorf("closes (-want +got):\n%s", diff)
		}
	})
}

// Under TLS a client can shut its sending half in two ways: with TLS's goodbye, or the socket's
// half alone.
func TestClientThatShutsItsSendingHalfIsLost(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		for i, shut := range []func(*raw) error{
			func(c *raw) error { return c.conn.(interface{ CloseWrite() error }).CloseWrite() },
			func(c *raw) error { return c.socket().CloseWrite() },
		} {
			c := b.upgrade("", "")
			b.waitAttached(1)
			if err := shut(c); err != nil {
				t.Fatal(err)
			}
			if e := c.end(); e.closed || e.err != nil {
				t.Errorf("ended with %+v", e)
			}
			waitUntilEmpty(b)
			if got := b.causes.all()[i].Cause; got != cause.Lost {
				t.Errorf("cause %v", got)
			}
		}
	})
}

func TestResetWhileTheWriterIsBusyEndsTheLink(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		c := b.upgrade("user=slow", "")
		b.waitAttached(1)
		floodUntil(t, b, overflow.DropNewest, func(flood) bool {
			return b.infos()[0].QueuedMessages > 3
		})
		c.reset()
		waitUntilEmpty(b)
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
	})
}
