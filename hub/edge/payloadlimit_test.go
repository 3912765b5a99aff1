package edge_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// MaxMessage counts the client's payload, and not the wrapping of its protocol.
func TestPayloadOfExactlyTheLimitIsTakenHoweverItIsWrapped(t *testing.T) {
	const limit = 64 << 10
	command := func(dataType, data string) string {
		return `{"type":"event","event":"e","dataType":"` + dataType + `","data":` + data + `}`
	}
	binary := func(n int) string {
		return command("binary", `"`+base64.StdEncoding.EncodeToString(make([]byte, n))+`"`)
	}
	escaped := func(n int) string { return command("text", `"`+strings.Repeat(`\u0001`, n)+`"`) }
	plainText := func(n int) string { return command("text", `"`+strings.Repeat("x", n)+`"`) }
	for name, message := range map[string]func(int) string{
		"base64": binary, "escaped": escaped,
		"as it is": plainText,
	} {
		t.Run(name, func(t *testing.T) {
			webPubSub(t, func(t *testing.T, b *bed) {
				c := b.pubsub(t, "", webpubsub.NameJSON)
				c.say(message(limit))
				c.say(`{"type":"ping"}`)
				c.want(`{"type":"pong"}`)
				c.say(message(limit + 1))
				_, _, err := c.Read(t.Context())
				if websocket.CloseStatus(err) != websocket.StatusMessageTooBig ||
					!strings.Contains(err.Error(), "more than 65536 bytes of payload") {
					t.Errorf("ended with %v", err)
				}
			}, func(_ *hub.Config, c *edge.Config) { c.MaxMessage = limit })
		})
	}
}

// Outboxes count payloads: four texts of a megabyte fit into four, whatever their length on the
// wire.
func TestOutboxTakesAsMuchPayloadAsItsBoundSays(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		// reads nothing: a wire in memory takes nothing
		c := b.pubsub(t, "user=slow", webpubsub.NameJSON)
		const fit = 4
		text := strings.Repeat("\x01", hub.MaxPayload)
		for range 1 + fit { // the link has taken the first
			if r := b.send(everyone, hub.Text, text); r.Queued+r.Pending != 1 {
				t.Fatalf("receipt %+v", r)
			}
		}
		if r := b.send(everyone, hub.Text, "one more"); len(r.Dropped) != 1 {
			t.Errorf("receipt %+v of a message beyond the bound", r)
		}
		_ = c.CloseNow()
	})
}
