package edge_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/frame"
)

// eachWire runs a test over sockets, with TLS and without, and over a wire in memory, which needs a
// writer. The wire in memory is in a bubble.
func eachWire(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	if !goroutinePerLink { // a link in memory has goroutines anyway
		t.Run("memory", func(t *testing.T) { bubble(t, test, setups...) })
	}
	t.Run("tcp", func(t *testing.T) { test(t, overTCP(t, setups...)) })
	t.Run("tls", func(t *testing.T) { test(t, overTLS(t, setups...)) })
}

// eachSocket runs a test over sockets, with TLS and without.
func eachSocket(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	t.Run("tcp", func(t *testing.T) { test(t, overTCP(t, setups...)) })
	t.Run("tls", func(t *testing.T) { test(t, overTLS(t, setups...)) })
}

func TestSendReachesConnectionUserGroupAndEveryone(t *testing.T) {
	eachFraming(t, func(t *testing.T, b *bed) {
		ann := b.open("user=ann&group=blue&group=red")
		bob := b.open("user=bob&group=red")
		id := annID(t, b)
		for _, tc := range []struct {
			target hub.Target
			want   []Conn
		}{
			{hub.Target{Connections: []string{id}}, []Conn{ann}},
			{hub.Target{Users: []string{"bob"}}, []Conn{bob}},
			{hub.Target{Groups: []string{"blue"}}, []Conn{ann}},
			{hub.Target{Groups: []string{"red"}}, []Conn{ann, bob}},
			{everyone, []Conn{ann, bob}},
		} {
			r := b.send(tc.target, hub.Text, "hi")
			if r.Matched != len(tc.want) || len(r.Dropped) != 0 {
				t.Errorf("%+v: receipt %+v, want %d matched", tc.target, r, len(tc.want))
			}
			for _, c := range tc.want {
				if kind, got := read(t, c); kind != websocket.MessageText || got != "hi" {
					t.Errorf("%+v: got %v %q", tc.target, kind, got)
				}
			}
		}
	})
}

// annID returns the connection id of the user ann.
func annID(t *testing.T, b *bed) string {
	t.Helper()
	for _, info := range b.infos() {
		if info.User == "ann" {
			return string(info.ID)
		}
	}
	t.Fatal("ann is not connected")
	return ""
}

func TestPlainClientGetsTextJSONAndBinaryAsTheyAre(t *testing.T) {
	eachFraming(t, func(t *testing.T, b *bed) {
		c := b.open("")
		for _, tc := range []struct {
			kind    hub.PayloadKind
			payload string
			want    websocket.MessageType
		}{
			{hub.Text, "grüße 🙂", websocket.MessageText},
			{hub.Text, "", websocket.MessageText},
			{hub.JSON, `{"n": 1.00 }`, websocket.MessageText},
			{hub.Binary, "\x00\xff", websocket.MessageBinary},
			{hub.Binary, string(make([]byte, hub.MaxPayload)), websocket.MessageBinary},
		} {
			b.send(everyone, tc.kind, tc.payload)
			if kind, got := read(t, c); kind != tc.want || got != tc.payload {
				t.Errorf("kind %v: got %v and %d bytes", tc.kind, kind, len(got))
			}
		}
	})
}

func TestEnvelopeClientIsGreetedFirstAndSeesTheRoute(t *testing.T) {
	eachFraming(t, func(t *testing.T, b *bed) {
		c := b.open("user=ann&group=blue", "something.else", envelope.Name)
		if c.Subprotocol() != envelope.Name {
			t.Errorf("subprotocol %q", c.Subprotocol())
		}
		id := annID(t, b)
		want := map[string]any{
			"type": "connected", "connectionId": id, "user": "ann",
			"hub": string(b.hub.ID()),
		}
		if diff := cmp.Diff(want, readObject(t, c)); diff != "" {
			t.Errorf("greeting (-want +got):\n%s", diff)
		}
		r := b.send(hub.Target{Groups: []string{"blue"}}, hub.JSON, `[1,2]`)
		want = map[string]any{
			"type": "message", "id": r.MessageID, "route": "group", "group": "blue",
			"dataType": "json", "data": []any{1., 2.},
		}
		if diff := cmp.Diff(want, readObject(t, c)); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	})
}

func readObject(t *testing.T, c Conn) map[string]any {
	t.Helper()
	kind, got := read(t, c)
	var m map[string]any
	if err := json.Unmarshal([]byte(got), &m); err != nil || kind != websocket.MessageText {
		t.Fatalf("%v %q: %v", kind, got, err)
	}
	return m
}

func TestSubprotocolThatIsNotKnownGetsPlain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.dial("", "json.example.v9")
		if c.Subprotocol() != "" {
			t.Errorf("subprotocol %q", c.Subprotocol())
		}
		if got := b.infos()[0].Protocol; got != "plain" {
			t.Errorf("protocol %q", got)
		}
	})
}

func TestSendInTheMomentOfOnopenArrives(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		for range 50 {
			c := b.dial("user=ann") // returns when the 101 is read: as early as onopen
			d, err := b.hub.Deliver(t.Context(), &hub.Send{
				Message: &hub.Message{
					Namespace: hub.DefaultNamespace, Kind: hub.Text,
					Payload: []byte("first"),
				},
				Target: hub.Target{Users: []string{"ann"}},
			})
			if err != nil || d.Receipt().Matched != 1 {
				t.Fatalf("receipt %+v, %v", d.Receipt(), err)
			}
			if _, got := read(t, c); got != "first" {
				t.Fatalf("got %q", got)
			}
			_ = c.Close(websocket.StatusNormalClosure, "")
			waitUntilEmpty(b)
		}
	})
}

func TestWhatIsSentWithTheRequestIsRead(t *testing.T) {
	eachWire(t, func(t *testing.T, b *bed) {
		c := b.upgrade("", masked(0x89, "early")+masked(0x81, "also early")+masked(0x89, "last"))
		c.wantFrame(frame.Pong, "early")
		c.wantFrame(frame.Pong, "last")
		if got := b.metric("connhub_client_messages_total", "kind", "text", "protocol",
			"plain"); got != 1 {
			t.Errorf("%v messages counted", got)
		}
	})
}

func TestMessagesOfClientsAreCountedWithTheirBytes(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.dial("", envelope.Name)
		read(t, c)
		for _, m := range []string{"a", "bc", ""} {
			if err := c.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Write(t.Context(), websocket.MessageBinary, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, tc := range []struct {
			kind            string
			messages, bytes float64
		}{{"text", 3, 3}, {"binary", 1, 100_000}} {
			messages := b.metric("connhub_client_messages_total", "kind", tc.kind, "protocol",
				envelope.Name)
			bytes := b.metric("connhub_client_message_bytes_total", "kind", tc.kind, "protocol",
				envelope.Name)
			if messages != tc.messages || bytes != tc.bytes {
				t.Errorf("%s: %v messages, %v bytes", tc.kind, messages, bytes)
			}
		}
	})
}

func TestMessagesToOneConnectionArriveInOrder(t *testing.T) {
	eachFraming(t, func(t *testing.T, b *bed) {
		c := b.open("user=ann")
		const count = 500
		go func() {
			for i := range count {
				text, _ := json.Marshal(i)
				_, _ = b.hub.Deliver(t.Context(), &hub.Send{
					Message: &hub.Message{
						Namespace: hub.DefaultNamespace, Kind: hub.Text,
						Payload: text,
					},
					Target: everyone,
				})
			}
		}()
		for i := range count {
			var got int
			if _, text := read(t, c); json.Unmarshal([]byte(text), &got) != nil || got != i {
				t.Fatalf("message %d is %q", i, text)
			}
		}
	})
}

func TestSocketWithRoomIsWrittenToBeforeDeliverReturns(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { writtenAtOnce(t, overTCP(t)) })
	if goroutinePerLink {
		// under TLS such a link has a writer for all: it can't be told whether the socket has room
		return
	}
	t.Run("tls", func(t *testing.T) { writtenAtOnce(t, overTLS(t)) })
}

func writtenAtOnce(t *testing.T, b *bed) {
	t.Helper()
	c := b.dial("")
	b.waitAttached(1)
	for range 100 {
		d, err := b.hub.Deliver(t.Context(), &hub.Send{
			Message: &hub.Message{
				Namespace: hub.DefaultNamespace, Kind: hub.Text,
				Payload: []byte("hi"),
			},
			Target: everyone,
		})
		if err != nil || d.Receipt().Written != 1 {
			t.Fatalf("receipt %+v, %v", d.Receipt(), err)
		}
		read(t, c)
	}
	if got := b.metric("connhub_writes_total", "mode", "async"); got != 0 {
		t.Errorf("%v writes were asynchronous", got)
	}
	if got := b.metric("connhub_writes_total", "mode", "inline"); got != 100 {
		t.Errorf("%v writes were inline", got)
	}
}
