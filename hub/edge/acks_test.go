package edge_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/internal/testkit"
)

// reliable connects a raw client of the subprotocol with acks, and reads its greeting.
func (b *bed) reliable(query string) *raw {
	b.t.Helper()
	c, _ := b.upgradeWith(query, "Sec-WebSocket-Protocol: "+webpubsub.NameReliableJSON+"\r\n\r\n")
	if f, err := c.frame(); err != nil || !strings.Contains(f.payload, `"event":"connected"`) {
		b.t.Fatalf("greeted with %+v, %v", f, err)
	}
	return c
}

// hears sends a message to a user and checks that it is the user's n-th message.
func (b *bed) hears(user string, c *raw, n int) {
	b.t.Helper()
	b.send(hub.Target{Users: []string{user}}, hub.Text, fmt.Sprint(n))
	c.wantFrame(frame.Text, numbered(n, fmt.Sprint(n)))
}

// A client sends a hundred old acks for each message, as fast as it can. All clients get their
// messages, the flooder too. When it confirms a message that only a different client was sent, it
// alone is closed.
func TestFloodOfAcksDisturbsNobody(t *testing.T) {
	p := &here{}
	eachSocket(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		const each, confirmed = 100, 3
		messages := 1000
		if testkit.RaceEnabled {
			messages = 150
		}
		flooder, other := b.reliable("user=flooder"), b.reliable("user=other")
		for n := 1; n <= confirmed; n++ {
			b.hears("flooder", flooder, n)
			b.hears("other", other, n)
		}
		flooder.write(masked(0x81, acknowledge(confirmed)))
		var acks strings.Builder
		for n := range each {
			acks.WriteString(masked(0x81, acknowledge(n%(confirmed+1))))
		}
		turns := make(chan struct{}, messages)
		var flood sync.WaitGroup
		flood.Go(func() {
			defer close(turns)
			for range messages {
				if _, err := flooder.conn.Write([]byte(acks.String())); err != nil {
					t.Errorf("the flooder: %v", err)
					return
				}
				turns <- struct{}{}
			}
			// its answer says that all was read
			_, _ = flooder.conn.Write([]byte(masked(0x81, `{"type":"ping"}`)))
		})
		n := confirmed
		for range turns {
			n++
			b.send(everyone, hub.Text, fmt.Sprint(n))
			other.wantFrame(frame.Text, numbered(n, fmt.Sprint(n)))
		}
		flood.Wait()
		wantNumberedAndPong(flooder, confirmed+1, confirmed+messages)
		labels := []string{"kind", "text", "protocol", webpubsub.NameReliableJSON}
		taken := b.metric("connhub_client_messages_total", labels...)
		if taken != float64(messages*each+2) {
			t.Errorf("%v messages of the flooder were taken", taken)
		}
		for _, info := range b.infos() {
			if want := map[string]uint64{
				"flooder": confirmed,
				"other":   0,
			}[info.User]; info.LastAcked != want ||
				info.UnackedMessages != confirmed+messages-int(want) {
				t.Errorf("%s has confirmed up to %d, not %d messages", info.User, info.LastAcked,
					info.UnackedMessages)
			}
		}

		n++
		b.hears("other", other, n)
		flooder.write(masked(0x81, acknowledge(n)))
		flooder.wantFrame(frame.Text,
			`{"type":"system","event":"disconnected","message":"sequenceId: nothing with this `+
				`id was sent"}`)
		flooder.wantEnd(1008, "sequenceId: nothing with this id was sent")
		other.write(masked(0x81, acknowledge(n)))
		b.hears("other", other, n+1)
		// the hub knows when the link has ended
		eventually(t, func() bool { return len(b.causes.all()) > 0 })
		want := cause.CloseStatus{
			Cause: cause.PolicyViolation, Code: 1008,
			Reason: "sequenceId: nothing with this id was sent",
		}
		if diff := cmp.Diff([]cause.CloseStatus{want}, b.causes.all()); diff != "" {
			t.Errorf("closes (-want +got):\n%s", diff)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.Protocols = webpubsub.Protocols(p) })
}

// wantNumberedAndPong reads the messages with the sequence ids from..to, and a pong anywhere among
// them.
func wantNumberedAndPong(c *raw, from, to int) {
	c.t.Helper()
	pongs := 0
	for n := from; n <= to || pongs == 0; {
		f, err := c.frame()
		switch {
		case err != nil:
			c.t.Fatalf("waiting for message %d: %v", n, err)
		case f.payload == `{"type":"pong"}`:
			pongs++
		case f.payload != numbered(n, fmt.Sprint(n)):
			c.t.Fatalf("got %s, want message %d", f.payload, n)
		default:
			n++
		}
	}
}

// heard has the messages of a client until its link ended.
type heard struct {
	messages []string
	err      error
}

// listen reads until the link ends.
func (p *pubsub) listen() <-chan heard {
	done := make(chan heard, 1)
	go func() {
		var h heard
		for {
			_, message, err := p.Read(p.t.Context())
			if err != nil {
				h.err = err
				done <- h
				return
			}
			h.messages = append(h.messages, string(message))
		}
	}()
	return done
}

// confirm sends an ack for a listening client, once the bubble is at rest.
func (p *pubsub) confirm(sequence int) {
	p.t.Helper()
	synctest.Wait()
	p.say(acknowledge(sequence))
	synctest.Wait()
}

// onlyInfo returns the hub's info of a user's only connection.
func (b *bed) onlyInfo(user string) hub.Info {
	b.t.Helper()
	infos, _, err := b.hub.Connections(hub.DefaultNamespace, &hub.Target{Users: []string{user}},
		hub.Cursor{}, 2)
	if err != nil || len(infos) != 1 {
		b.t.Fatalf("connections of %s: %+v, %v", user, infos, err)
	}
	return infos[0]
}

// hubMetrics lets a bed see the metrics of its hub too.
func hubMetrics(h *hub.Config, c *edge.Config) { h.Metrics = c.Metrics }

// A live client that reads gets the messages of its window. If it confirms none of them, it is
// closed after AckTimeout, and the hub keeps nothing for it. A client that confirms from time to
// time gets everything and stays.
func TestClientThatNeverConfirmsIsClosedAlone(t *testing.T) {
	const window, beyond = 10, 5
	for name, says := range map[string]string{
		"says nothing": "", "confirms the same again": acknowledge(1), "pings": `{"type":"ping"}`,
	} {
		t.Run(name, func(t *testing.T) {
			pubSubOnEach(t, func(t *testing.T, b *bed) {
				stuck, good := b.pubsub(t, "user=stuck", webpubsub.NameReliableJSON),
					b.pubsub(t, "user=good", webpubsub.NameReliableJSON)
				ended, stays := stuck.listen(), good.listen()
				b.send(everyone, hub.Text, long)
				stuck.confirm(1)
				good.confirm(1)
				if got := b.metric("connhub_held_bytes"); got != 0 {
					t.Fatalf("%v bytes are held of what all have confirmed", got)
				}
				for range window + beyond {
					b.send(everyone, hub.Text, long)
				}
				good.confirm(1 + window)
				good.confirm(1 + window + beyond)
				if info := b.onlyInfo("stuck"); info.UnackedMessages != window ||
					info.QueuedMessages != beyond {
					t.Errorf("window %d, queue %d", info.UnackedMessages, info.QueuedMessages)
				}
				if got := b.metric("connhub_held_bytes"); got < float64((window+beyond)*len(long)) {
					t.Errorf("%v bytes are held", got)
				}
				for range 29 { // the bubble's clock
					time.Sleep(time.Second)
					if says != "" {
						stuck.say(says)
					}
				}
				synctest.Wait()
				if got := b.causes.all(); len(got) != 0 {
					t.Fatalf("closed before its time: %v", got)
				}
				time.Sleep(time.Second)
				wantStuck(t, b, <-ended, 1+window)
				synctest.Wait()
				if got := b.metric("connhub_held_bytes"); got != 0 {
					t.Errorf("%v bytes are held for nobody", got)
				}
				b.send(everyone, hub.Text, "still here")
				good.confirm(2 + window + beyond)
				_ = good.CloseNow()
				if got := (<-stays).messages; len(got) != 2+window+beyond ||
					got[1+window+beyond] != numbered(2+window+beyond, "still here") {
					t.Errorf("the other one got %d messages", len(got))
				}
			}, hubMetrics, func(h *hub.Config, _ *edge.Config) { h.Window.Messages = window })
		})
	}
}

// wantStuck checks that a client got so many messages and was then closed, alone, because it
// confirmed none.
func wantStuck(t *testing.T, b *bed, got heard, messages int) {
	t.Helper()
	if code := websocket.CloseStatus(got.err); code != websocket.StatusPolicyViolation ||
		!strings.Contains(got.err.Error(), "no acknowledgement") {
		t.Errorf("ended with %v", got.err)
	}
	last := len(got.messages) - 1
	want := `{"type":"system","event":"disconnected","message":"no acknowledgement"}`
	if got.messages[last] != want {
		t.Errorf("the last message is %s", got.messages[last])
	}
	n := 0
	for _, message := range got.messages[:last] {
		if message == `{"type":"pong"}` {
			continue
		}
		if n++; message != numbered(n, long) {
			t.Errorf("message %d is %s", n, message)
		}
	}
	if n != messages {
		t.Errorf("%d messages, want %d", n, messages)
	}
	if diff := cmp.Diff([]cause.CloseStatus{cause.AckStuck.CloseStatus()},
		b.causes.all()); diff != "" {
		t.Errorf("closes (-want +got):\n%s", diff)
	}
	if got := b.metric("connhub_connections_closed_total", "cause", "ack_stuck"); got != 1 {
		t.Errorf("counted %v times", got)
	}
}

// Unconfirmed messages stay within the hub's budget. The clients with the most kept bytes are
// closed. A client that confirms is not.
func TestClientsThatNeverConfirmShareABudget(t *testing.T) {
	const budget, size, hoarders, rounds = 8 << 20, 128 << 10, 4, 40 // 20 MiB for the hoarders
	payload := strings.Repeat("x", size)
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		var ends []<-chan heard
		for i := range hoarders {
			ends = append(ends,
				b.pubsub(t, fmt.Sprint("user=", i), webpubsub.NameReliableJSON).listen())
		}
		good := b.pubsub(t, "user=good", webpubsub.NameReliableJSON)
		stays := good.listen()
		for n := range rounds {
			for i := range hoarders {
				b.send(hub.Target{Users: []string{fmt.Sprint(i)}}, hub.Text, payload)
			}
			b.send(hub.Target{Users: []string{"good"}}, hub.Text, payload)
			good.confirm(n + 1)
			if held := b.metric("connhub_held_bytes"); held > budget {
				t.Fatalf("round %d: %v bytes are held", n, held)
			}
		}
		closes := b.causes.all()
		if len(closes) == 0 {
			t.Error("nobody was closed")
		}
		for _, how := range closes {
			if diff := cmp.Diff(cause.Memory.CloseStatus(), how); diff != "" {
				t.Errorf("closed (-want +got):\n%s", diff)
			}
		}
		told := 0
		for _, end := range ends {
			select {
			case h := <-end:
				told++
				if websocket.CloseStatus(h.err) != websocket.StatusTryAgainLater {
					t.Errorf("a hoarder ended with %v", h.err)
				}
			default: // it may stay
			}
		}
		if told != len(closes) {
			t.Errorf("%d were closed, %d hoarders", len(closes), told)
		}
		_ = good.CloseNow()
		if got := (<-stays).messages; len(got) != rounds {
			t.Errorf("the one who confirms got %d messages of %d", len(got), rounds)
		}
	}, hubMetrics, func(h *hub.Config, _ *edge.Config) {
		h.HeldBytes, h.NamespaceHeldBytes = budget, budget
	})
}

// A well-formed command beyond a limit is answered. The connection goes on, the ackId is free, and
// further clients notice nothing.
func TestWhatIsRefusedDisturbsNobody(t *testing.T) {
	tooLong := strings.Repeat("x", hub.MaxName+1)
	const badName = "want a name of 1 to 1024 bytes without control characters"
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		c, other := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON),
			b.pubsub(t, "user=bob&group=g", webpubsub.NameReliableJSON)
		sequence := 0
		for _, tc := range []struct{ verb, members, message string }{
			{"joinGroup", `"group":"` + tooLong + `"`, "group: " + badName},
			{"leaveGroup", `"group":"` + tooLong + `"`, "group: " + badName},
			{"sendToGroup", `"data":1,"group":"` + tooLong + `"`, "group: " + badName},
			{"event", `"data":1,"event":"` + tooLong + `"`, "event: " + badName},
			{
				"sendToGroup", `"data":1,"group":"g","ttlSeconds":86401`,
				"ttlSeconds: want 86400 at most",
			},
			{
				"sendToGroup", `"data":1,"group":"g","metadata":{"` + tooLong + `":""}`,
				"metadata: " + badName,
			},
			{"sendToGroup", `"data":1,"group":"g","metadata":{"k":"` + strings.Repeat("v", 8<<10) +
				`"}`, "metadata: want 8 KiB at most"},
		} {
			sequence++
			c.say(`{"type":"` + tc.verb + `",` + tc.members + `}`) // silently
			c.say(fmt.Sprintf(`{"type":"%s",%s,"ackId":%d}`, tc.verb, tc.members, sequence))
			c.want(fmt.Sprintf(
				`{"type":"ack","ackId":%d,"success":false,"error":{"name":"BadRequest",`+
					`"message":"%s"}}`, sequence, tc.message))
			c.say(fmt.Sprintf(`{"type":"sendToGroup","group":"g","data":%d,"ackId":%[1]d}`,
				sequence))
			c.want(fmt.Sprintf(`{"type":"ack","ackId":%d,"success":true}`, sequence))
			other.want(fmt.Sprintf(
				`{"sequenceId":%d,"type":"message","from":"group","group":"g",`+
					`"fromUserId":"ann","dataType":"json","data":%[1]d}`, sequence))
		}
		if closes := b.causes.all(); len(closes) != 0 {
			t.Errorf("closed %v", closes)
		}
	})
}
