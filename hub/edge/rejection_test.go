package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// nowhere is a Publisher for clients that send to no group.
type nowhere struct{}

func (*nowhere) Publish(context.Context, *hub.Send) error { return nil }

// Frames as the official client 1.1 writes them, of commands that the hub does not support. Each is
// answered, or only counted, and the link goes on with its connection, in both subprotocols.
func TestUnknownCommandsAreAnsweredCountedAndDoNotCloseTheLink(t *testing.T) {
	const failed = `"error":{"name":"%s","message":"%s"}}`
	commands := []struct{ sent, want string }{
		{
			`{"type":"invoke","invocationId":"1","target":"event","event":"e","dataType":"text",` +
				`"data":"q"}`,
			`{"type":"invokeResponse","invocationId":"1","success":false,` +
				fmt.Sprintf(failed, "NotSupported", "invoke: the hub does not support invocations"),
		},
		{`{"type":"cancelInvocation","invocationId":"1"}`, ""},
		{`{"type":"invokeResponse","invocationId":"1","success":false}`, ""},
		{
			`{"type":"sendToGroup","group":"g","noEcho":false,"stream":{"streamId":"s"}}`,
			`{"type":"streamClosed","streamId":"s",` +
				fmt.Sprintf(failed, "NotSupported", "stream: the hub does not support streams"),
		},
		{
			`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text",` +
				`"data":"x"}`,
			`{"type":"streamClosed","streamId":"s",` +
				fmt.Sprintf(failed, "StreamNotFound", "streamId: the hub does not support streams"),
		},
		{
			`{"type":"streamEnd","streamId":"s"}`,
			`{"type":"streamClosed","streamId":"s",` +
				fmt.Sprintf(failed, "StreamNotFound", "streamId: the hub does not support streams"),
		},
		{
			`{"type":"setGroupState","group":"g","ackId":1,"state":{"k":"v"}}`,
			`{"type":"ack","ackId":1,"success":false,` +
				fmt.Sprintf(failed, "NotSupported", "type: the hub does not support this command"),
		},
		{
			`{"type":"subscribeGroupState","group":"g","ackId":2}`,
			`{"type":"ack","ackId":2,"success":false,` +
				fmt.Sprintf(failed, "NotSupported", "type: the hub does not support this command"),
		},
		{`{"type":"unsubscribeGroupState","group":"g"}`, ""},
		{`{"type":"fromTheFuture"}`, ""},
	}
	for _, protocol := range []string{webpubsub.NameJSON, webpubsub.NameReliableJSON} {
		speaking := func(_ *hub.Config, c *edge.Config) {
			c.Protocols = webpubsub.Protocols(&nowhere{})
		}
		// check has a client send each command, and then a ping.
		check := func(t *testing.T, b *bed, say func(first, second string), next func() string) {
			t.Helper()
			if greeting := next(); !strings.Contains(greeting, `"connected"`) {
				t.Fatalf("greeted with %s", greeting)
			}
			for _, command := range commands {
				say(command.sent, `{"type":"ping"}`)
				if command.want != "" {
					if got := next(); got != command.want {
						t.Errorf("%s:\ngot  %s\nwant %s", command.sent, got, command.want)
					}
				}
				if got := next(); got != `{"type":"pong"}` {
					t.Errorf("%s:\ngot %s, want a pong", command.sent, got)
				}
			}
			if closes := b.causes.all(); len(closes) > 0 {
				t.Errorf("closed with %+v", closes)
			}
		}
		t.Run(protocol, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				c, header := b.upgradeWith("user=ann",
					"Sec-WebSocket-Protocol: "+protocol+"\r\n\r\n")
				if got := header.Get("Sec-WebSocket-Protocol"); got != protocol {
					t.Fatalf("agreed on %q (%s)", got,
						http.StatusText(http.StatusSwitchingProtocols))
				}
				check(t, b, func(first, second string) {
					c.write(masked(0x81, first) + masked(0x81, second))
				}, func() string {
					t.Helper()
					f, err := c.frame()
					if err != nil || f.opcode != frame.Text {
						t.Fatalf("%v, %+v", err, f)
					}
					return f.payload
				})
				if got := b.metric("connhub_client_commands_rejected_total", "protocol", protocol,
					"reason", "unsupported"); got != float64(len(commands)) {
					t.Errorf("counted %v, want %d", got, len(commands))
				}
			}, speaking)
		})
		t.Run(protocol+" over lines", func(t *testing.T) {
			onLines(t, func(t *testing.T, b *bed) {
				c := b.open("user=ann", protocol)
				check(t, b, func(first, second string) {
					say(t, c, websocket.MessageText, first)
					say(t, c, websocket.MessageText, second)
				}, func() string {
					t.Helper()
					kind, text := read(t, c)
					if kind != websocket.MessageText {
						t.Fatalf("%v %q", kind, text)
					}
					return text
				})
			}, speaking)
		})
	}
}
