package edge_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/plain"
)

// Bytes of a client, and how the hub must end the link. Codes: RFC 6455 §7.4.1.
var violations = []struct {
	name  string
	bytes string
	cause cause.Cause
	code  uint16
	said  string // part of the reason
}{
	{"text that is not UTF-8", masked(0x81, "a\xffb"), cause.InvalidText, 1007, "not UTF-8"},
	{
		"text that ends inside a character", masked(0x81, "\xf0\x9f\x99"), cause.InvalidText, 1007,
		"not UTF-8",
	},
	{
		"bad byte at the start of a frame that never ends",
		masked(0x81, "\xff"+strings.Repeat("x", 99))[:20], cause.InvalidText, 1007, "not UTF-8",
	},
	{
		"surrogate across fragments",
		masked(0x01, "ok\xed") + masked(0x00, "\xa0"), cause.InvalidText,
		1007, "not UTF-8",
	},
	{
		"long text that is not UTF-8", masked(0x81, strings.Repeat("ü", 20_000)+"\xc0"),
		cause.InvalidText, 1007, "not UTF-8",
	},
	{
		"message over the limit", masked(0x82, strings.Repeat("x", 64<<10+1)), cause.TooBig, 1009,
		"more than 65536 bytes",
	},
	{"fragments over the limit", masked(0x02, strings.Repeat("x", 40_000)) +
		masked(0x80, strings.Repeat("x", 40_000)), cause.TooBig, 1009, ""},
	{"length that needs no two bytes", "\x82\xfe\x00\x7d" + masked(0x82,
		strings.Repeat("x", 125))[2:], cause.Protocol, 1002, "more bytes than it needs"},
	{
		"length that needs no eight bytes",
		"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04",
		cause.Protocol, 1002, "more bytes than it needs",
	},
	{
		"length of a ping that needs no two bytes",
		"\x89\xfe\x00\x00\x01\x02\x03\x04", cause.Protocol,
		1002, "more bytes than it needs",
	},
	{
		"header that announces too much", masked(0x82, strings.Repeat("x", 64<<10+1))[:14],
		cause.TooBig, 1009, "more than 65536 bytes",
	},
	{"header that announces too much, behind a message", masked(0x81, "hi") + masked(0x82,
		strings.Repeat("x", 64<<10+1))[:14], cause.TooBig, 1009, "more than 65536 bytes"},
	{"header of a fragment that announces too much", masked(0x02, strings.Repeat("x", 40_000)) +
		masked(0x80, strings.Repeat("x", 40_000))[:8], cause.TooBig, 1009, "more than 65536 bytes"},
	{"frame without a mask", "\x81\x02hi", cause.Protocol, 1002, "protocol error"},
	{
		"length below zero", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		cause.Protocol, 1002, "",
	},
	{"reserved bit 1", masked(0xc1, "hi"), cause.Protocol, 1002, ""},
	{"reserved bit 2", masked(0xa1, "hi"), cause.Protocol, 1002, ""},
	{"reserved bit 3", masked(0x91, "hi"), cause.Protocol, 1002, ""},
	{"unknown data opcode", masked(0x83, "hi"), cause.Protocol, 1002, ""},
	{"unknown control opcode", masked(0x8b, "hi"), cause.Protocol, 1002, ""},
	{"fragmented ping", masked(0x09, "hi"), cause.Protocol, 1002, ""},
	{"long ping", masked(0x89, strings.Repeat("x", 126)), cause.Protocol, 1002, ""},
	{"continuation of nothing", masked(0x80, "hi"), cause.Protocol, 1002, ""},
	{"message inside a message", masked(0x01, "hi") + masked(0x81, "ho"), cause.Protocol, 1002, ""},
	{"close with half a code", masked(0x88, "\x03"), cause.Protocol, 1002, ""},
	{"close with a code that may not be sent", masked(0x88, "\x03\xee"), cause.Protocol, 1002, ""},
	{
		"close with a reason that is not UTF-8",
		masked(0x88, "\x03\xe8\xff"), cause.InvalidText, 1007,
		"not UTF-8",
	},
}

func smallMessages(_ *hub.Config, c *edge.Config) { c.MaxMessage = 64 << 10 }

func TestViolationIsClosedWithItsCodeAndNobodyElseNotices(t *testing.T) {
	for _, tc := range violations {
		t.Run(tc.name, func(t *testing.T) {
			eachWire(t, func(t *testing.T, b *bed) {
				other := b.dial("user=other")
				c := b.upgrade("user=bad", "")
				go func() { _, _ = io.WriteString(c.conn, tc.bytes) }() // it may be cut off
				c.wantEnd(tc.code, tc.said)
				eventually(t, func() bool { return len(b.causes.all()) == 1 })
				got := b.causes.all()[0]
				if got.Cause != tc.cause || got.Code != tc.code {
					t.Errorf("hub knows %+v", got)
				}
				b.send(everyone, hub.Text, "still here")
				if _, text := read(t, other); text != "still here" {
					t.Errorf("got %q", text)
				}
			}, smallMessages)
		})
	}
}

// Clients that begin large messages and never end them share a budget. Small messages of further
// clients pass.
func TestUnfinishedMessagesShareABudget(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		const clients = 5
		most := masked(0x82, strings.Repeat("x", 99_000))
		for range clients {
			b.upgrade("user=greedy", "").write(most[:len(most)-1])
		}
		eventually(t, func() bool { return len(b.causes.all()) > 0 })
		for _, how := range b.causes.all() {
			if how != cause.Memory.CloseStatus() {
				t.Errorf("closed with %+v", how)
			}
		}
		if left := b.hub.Len(); left == 0 {
			t.Error("the budget is for some of them")
		}
		other := b.upgrade("user=other", "")
		other.write(masked(0x81, "hi"))
		eventually(t, func() bool {
			return b.metric("connhub_client_messages_total", "kind", "text", "protocol",
				"plain") == 1
		})
		if _, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace, &everyone,
			cause.Backend.CloseStatus(), 0); err != nil {
			t.Fatal(err)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.MaxMessage, c.InboundBytes = 100_000, 300_000 })
}

func TestMessageOfExactlyTheLimitIsTaken(t *testing.T) {
	eachWire(t, func(_ *testing.T, b *bed) {
		c := b.upgrade("", "")
		c.write(masked(0x81, strings.Repeat("x", 64<<10)) + masked(0x89, "after"))
		c.wantFrame(frame.Pong, "after")
	}, smallMessages)
}

func TestValidTextIsTakenHoweverItIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		const text = "aé€🙂"
		c := b.upgrade("", "")
		for cut := range len(text) + 1 {
			c.write(masked(0x01, text[:cut]) + masked(0x89, "") + masked(0x80, text[cut:]))
			c.wantFrame(frame.Pong, "")
		}
		whole := masked(0x81, text)
		for i := range len(whole) {
			c.write(whole[i : i+1])
		}
		synctest.Wait()
		want := float64(len(text) + 2)
		if got := b.metric("connhub_client_messages_total", "kind", "text", "protocol",
			"plain"); got != want {
			t.Errorf("%v messages, want %v", got, want)
		}
	})
}

func TestCloseOfTheClientIsAnsweredAndKnown(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		for i, tc := range []struct {
			payload string
			want    cause.CloseStatus
		}{
			{"\x03\xe8", cause.CloseStatus{Cause: cause.Client, Code: 1000}},
			{
				"\x0f\xa0so long",
				cause.CloseStatus{Cause: cause.Client, Code: 4000, Reason: "so long"},
			},
			{"", cause.CloseStatus{
				Cause: cause.Client,
				Code:  uint16(websocket.StatusNoStatusRcvd),
			}},
		} {
			c := b.upgrade("", "")
			c.write(masked(0x88, tc.payload))
			c.wantFrame(frame.Close, tc.payload)
			if f, err := c.frame(); err == nil {
				t.Errorf("frame %+v after the close frame", f)
			}
			eventually(t, func() bool { return len(b.causes.all()) == i+1 })
			if diff := cmp.Diff(tc.want, b.causes.all()[i]); diff != "" {
				t.Errorf("close (-want +got):\n%s", diff)
			}
		}
	})
}

func TestBackendsCloseReachesTheClientWithCodeAndReason(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		c := b.dial("user=ann")
		how := cause.CloseStatus{Cause: cause.Backend, Code: 3000, Reason: "go away, grüße"}
		closed, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace,
			&hub.Target{Users: []string{"ann"}}, how, 0)
		if err != nil || closed.Closed != 1 {
			t.Fatalf("closed %+v, %v", closed, err)
		}
		wantClose(t, c, 3000, how.Reason)
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
	})
}

// A backend, or a hub that stops, sends more than a socket takes at once and then closes. All of it
// comes before the close frame.
func TestLastWordsArriveBeforeAnOrderlyClose(t *testing.T) {
	for _, how := range []cause.CloseStatus{
		{Cause: cause.Backend, Code: 4000, Reason: "bye"},
		cause.Shutdown.CloseStatus(),
	} {
		eachWire(t, func(t *testing.T, b *bed) {
			c := b.dial("group=g")
			b.waitAttached(1)
			const messages, size = 30, 100_000
			for i := range messages {
				b.send(hub.Target{Groups: []string{"g"}}, hub.Text,
					strings.Repeat(string(rune('A'+i)), size))
			}
			if r, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace, &everyone, how,
				0); err != nil || r.Closed != 1 {
				t.Fatalf("closed %+v, %v", r, err)
			}
			if r := b.send(everyone, hub.Text, "late"); r.Matched != 0 {
				t.Errorf("a closing connection matches: %+v", r)
			}
			for i := range messages {
				if _, got := read(t, c); got != strings.Repeat(string(rune('A'+i)), size) {
					t.Fatalf("message %d is not what was sent", i)
				}
			}
			wantClose(t, c, websocket.StatusCode(how.Code), how.Reason)
		})
	}
}

func TestCloseWithoutCodeEndsTheSocketAtOnce(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		b.waitAttached(1)
		how := cause.CloseStatus{Cause: cause.Backend}
		if _, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace, &everyone, how,
			0); err != nil {
			t.Fatal(err)
		}
		// TLS has no way to end at once that does not look like an attack to the client.
		if e := c.end(); e.closed || e.err != nil && !errors.Is(e.err, io.ErrUnexpectedEOF) {
			t.Errorf("ended with %+v", e)
		}
		eventually(t, func() bool { return b.metric("connhub_links") == 0 })
	})
}

func closeEveryone(t *testing.T, b *bed) {
	t.Helper()
	how := cause.CloseStatus{Cause: cause.Backend, Code: 3000, Reason: "over"}
	if _, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace, &everyone, how,
		0); err != nil {
		t.Fatal(err)
	}
}

func TestShutdownSaysGoingAwayToEachClient(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		clients := []*websocket.Conn{b.dial(""), b.dial(""), b.dial("")}
		ended := make(chan struct{})
		go func() {
			b.done()
			close(ended)
		}()
		for _, c := range clients {
			wantClose(t, c, websocket.StatusGoingAway, "hub is shutting down")
		}
		<-ended
	})
}

func TestClientThatNeverAnswersACloseIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		closeEveryone(t, b)
		began := time.Now()
		c.wantEnd(3000, "over") // it does not answer
		if took := time.Since(began); took != edge.DefaultConfig().CloseTimeout {
			t.Errorf("took %v", took)
		}
		synctest.Wait()
		if got := b.metric("connhub_links"); got != 0 {
			t.Errorf("%v links", got)
		}
	})
}

func TestClientThatReadsNothingIsCutOffWhenClosed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		b.upgrade("", "") // and reads nothing more
		b.waitAttached(1)
		b.send(everyone, hub.Text, "never read")
		closeEveryone(t, b)
		time.Sleep(edge.DefaultConfig().CloseTimeout) // the bubble's clock
		synctest.Wait()
		if got := b.metric("connhub_links"); got != 0 {
			t.Errorf("%v links", got)
		}
	})
}

func TestClosingClientMaySendOnButIsNotHeard(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", "")
		closeEveryone(t, b)
		c.wantFrame(frame.Close, "\x0b\xb8over")
		c.write(masked(0x81, "late") + masked(0x89, "late") + masked(0x88, "\x0b\xb8"))
		if f, err := c.frame(); err == nil {
			t.Errorf("frame %+v after the close frame", f)
		}
		if got := b.metric("connhub_client_messages_total", "kind", "text", "protocol",
			"plain"); got != 0 {
			t.Errorf("%v messages were handed on", got)
		}
	})
}

func TestLostSocketIsKnownAsLost(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", masked(0x01, "half a mess"))
		_ = c.conn.Close()
		eventually(t, func() bool { return len(b.causes.all()) == 1 })
		if got := b.causes.all()[0].Cause; got != cause.Lost {
			t.Errorf("cause %v", got)
		}
	})
}

func TestSlowMessageIsCutOff(t *testing.T) {
	for name, bytes := range map[string]string{
		"half a frame": masked(0x81, strings.Repeat("x", 100))[:50],
		"no end":       masked(0x01, "first"),
		"a ping does not help it": masked(0x01, "first") + masked(0x89, "") +
			masked(0x00, "second"),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				c := b.upgrade("", "")
				began := time.Now()
				go func() { _, _ = io.WriteString(c.conn, bytes) }()
				c.wantEnd(1008, "not complete in time")
				if took := time.Since(began); took != edge.DefaultConfig().MessageTimeout {
					t.Errorf("took %v", took)
				}
				waitUntilEmpty(b) // the client sees the end before the hub does
				if got := b.causes.all()[0].Cause; got != cause.SlowMessage {
					t.Errorf("cause %v", got)
				}
			}, func(_ *hub.Config, c *edge.Config) { c.PingInterval = time.Hour })
		})
	}
}

func TestHalfAControlFrameIsCutOff(t *testing.T) {
	bubble(t, func(_ *testing.T, b *bed) {
		c := b.upgrade("", masked(0x89, "hello")[:8])
		c.wantEnd(1008, "not complete in time")
	})
}

func TestMessageTimeoutEndsWithTheMessage(t *testing.T) {
	bubble(t, func(_ *testing.T, b *bed) {
		c := b.upgrade("", "")
		for range 3 {
			c.write(masked(0x01, "slow"))
			time.Sleep(20 * time.Second) // the bubble's clock; 30 are allowed
			c.write(masked(0x80, "end") + masked(0x89, "?"))
			c.wantFrame(frame.Pong, "?")
			time.Sleep(24 * time.Second)
		}
	})
}

// verdict is a protocol that ends each link with a given error.
type verdict struct {
	plain.Protocol
	err error
}

func (v verdict) Receive(*hub.Connection, hub.PayloadKind, []byte) error {
	if v.err == nil {
		panic("as told")
	}
	return v.err
}

func TestProtocolsErrorEndsTheLink(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		code   uint16
		reason string
	}{
		"violation": {
			&edge.Violation{Close: cause.Unsupported.CloseStatus()}, 1003,
			"message type not supported",
		},
		"fault": {io.ErrUnexpectedEOF, 1011, "internal error"},
		"panic": {nil, 1011, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *testing.T, b *bed) {
				c := b.upgrade("", masked(0x81, "hi"))
				c.wantEnd(tc.code, tc.reason)
			}, func(_ *hub.Config, c *edge.Config) { c.Plain = verdict{err: tc.err} })
		})
	}
}

func TestShutdownEndsSocketsWhoseTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		b := newBed(t, l, l.dial)
		b.upgrade("", "")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := b.edge.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if got := b.metric("connhub_links"); got != 0 {
			t.Errorf("%v links", got)
		}
		b.done()
	})
}

func TestCloseDuringTheHandshakeReachesTheClientToo(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		for range 20 {
			c := b.upgrade("", "")
			closeEveryone(t, b) // most likely before the link is bound
			c.wantFrame(frame.Close, "\x0b\xb8over")
			_ = c.conn.Close()
			waitUntilEmpty(b)
		}
	})
}
