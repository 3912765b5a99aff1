package edge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// silence is how long a client may stay silent. slack is the delay that the wheel's whole seconds
// may add.
var silence = edge.DefaultConfig().PingInterval + edge.DefaultConfig().PongTimeout

const slack = 2 * time.Second

func TestSilentClientIsPingedThenClosed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		began := time.Now()
		f, err := c.frame()
		if err != nil || f.opcode != frame.Ping || len(f.payload) != 8 {
			t.Fatalf("got %+v, %v; want a ping with 8 bytes", f, err)
		}
		interval := edge.DefaultConfig().PingInterval
		if took := time.Since(began); took < interval || took > interval+slack {
			t.Errorf("ping after %v", took)
		}
		f, err = c.frame() // and no pong
		if took := time.Since(began); took < silence || took > silence+slack {
			t.Errorf("%+v, %v after %v", f, err, took)
		}
		if f.opcode != frame.Close || f.payload != "\x03\xe9ping timeout" {
			t.Errorf("got %+v, %v; want a close frame", f, err)
		}
		waitUntilEmpty(b)
		if got := b.causes.all()[0].Cause; got != cause.PingTimeout {
			t.Errorf("cause %v", got)
		}
		if got := b.metric("connhub_pings_sent_total"); got != 1 {
			t.Errorf("%v pings counted", got)
		}
	})
}

func TestVanishedClientIsFoundThoughMessagesAreSentToIt(t *testing.T) {
	quick := func(_ *hub.Config, c *edge.Config) {
		c.PingInterval, c.PongTimeout, c.CloseTimeout = time.Second, time.Second,
			100*time.Millisecond
	}
	// The beds run at once, because each takes seconds.
	beds := map[string]*bed{"tcp": overTCP(t, quick), "tls": overTLS(t, quick)}
	for _, b := range beds {
		b.upgrade("", "") // silent, and reads nothing: the kernel takes the pings
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range 60 {
		left := 0
		for _, b := range beds {
			b.send(everyone, hub.Text, "into the void")
			left += b.hub.Len()
		}
		if left == 0 {
			break
		}
		<-ticker.C
	}
	for name, b := range beds {
		waitUntilEmpty(b)
		if got := b.causes.all()[0].Cause; got != cause.PingTimeout {
			t.Errorf("%s: cause %v", name, got)
		}
	}
}

func TestClientsThatAnswerPingsStayForADay(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		clients := make([]*websocket.Conn, 3)
		for i := range clients {
			clients[i] = b.dial("")
			go func() { _, _, _ = clients[i].Read(t.Context()) }() // answers pings
		}
		time.Sleep(24 * time.Hour) // the bubble's clock
		if got := len(b.infos()); got != len(clients) {
			t.Errorf("%d of %d clients are left", got, len(clients))
		}
		want := float64(len(clients)) * 24 * 3600 / edge.DefaultConfig().PingInterval.Seconds()
		if got := b.metric("connhub_pings_sent_total"); got < want*0.9 || got > want {
			t.Errorf("%v pings, want about %v", got, want)
		}
		for _, c := range clients {
			_ = c.CloseNow()
		}
	})
}

func TestClientThatSpeaksIsNotPinged(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		for range 100 {
			time.Sleep(20 * time.Second) // the bubble's clock
			c.write(masked(0x81, "hi"))
		}
		synctest.Wait()
		if got := b.metric("connhub_pings_sent_total"); got != 0 {
			t.Errorf("%v pings", got)
		}
	})
}

func TestReadingSlowlyIsASignOfLife(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		b.waitAttached(1)
		b.send(everyone, hub.Binary, string(make([]byte, hub.MaxPayload)))
		for range 12 { // 16 KiB pieces; each within the silence allowed, together far beyond it
			time.Sleep(edge.DefaultConfig().PingInterval) // the bubble's clock
			if _, err := c.r.Discard(64 << 10); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(b.infos()); got != 1 {
			t.Error("closed")
		}
	})
}

func TestPongTellsTheRoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", masked(0x8a, "unasked!"))
		f, err := c.frame()
		if err != nil || f.opcode != frame.Ping {
			t.Fatalf("got %+v, %v", f, err)
		}
		time.Sleep(70 * time.Millisecond) // the bubble's clock
		c.write(masked(0x8a, "01234567") + masked(0x8a, "") + masked(0x8a, f.payload))
		synctest.Wait()
		if got := b.infos()[0].RoundTrip; got != 70*time.Millisecond {
			t.Errorf("round trip %v", got)
		}
		time.Sleep(time.Second)
		c.write(masked(0x8a, f.payload)) // again: too late to mean anything
		synctest.Wait()
		if got := b.infos()[0].RoundTrip; got != 70*time.Millisecond {
			t.Errorf("round trip %v after a pong that came twice", got)
		}
	})
}

// A client is pinged before it is given up, even with the shortest times, which the wheel's whole
// seconds could make a single second.
func TestNobodyIsClosedUnasked(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		for wait := range 10 {
			// the bubble's clock: another place in the second
			time.Sleep(time.Duration(wait) * 100 * time.Millisecond)
			c := b.upgrade("", "")
			if f, err := c.frame(); err != nil || f.opcode != frame.Ping {
				t.Fatalf("got %+v, %v; want a ping", f, err)
			}
			c.wantFrame(frame.Close, "\x03\xe9ping timeout")
		}
	}, func(_ *hub.Config, c *edge.Config) {
		c.PingInterval, c.PongTimeout = time.Second, time.Second
	})
}
