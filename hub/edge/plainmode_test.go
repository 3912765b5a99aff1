package edge_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
)

// toGroup is the query of a plain client whose frames go to the group g.
const toGroup = "&webpubsub_mode=sendToGroup&group=g"

// publishing runs a test in a bubble where plain clients may ask for that.
func publishing(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	p := &here{}
	bubble(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		test(t, b)
	}, append(setups, func(_ *hub.Config, c *edge.Config) {
		c.Plain = plain.Protocol{Publisher: p}
	})...)
}

// publishingOnEach is publishing over WebSockets and over lines.
func publishingOnEach(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Helper()
	p := &here{}
	eachLink(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		test(t, b)
	}, func(_ *hub.Config, c *edge.Config) { c.Plain = plain.Protocol{Publisher: p} })
}

// say sends a message of a plain client.
func say(t *testing.T, c Conn, kind websocket.MessageType, payload string) {
	t.Helper()
	if err := c.Write(t.Context(), kind, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestFramesOfAPlainClientComeToItsGroupWithTheirOpcode(t *testing.T) {
	publishingOnEach(t, func(t *testing.T, b *bed) {
		sender, member, stranger := b.open("user=ann"+toGroup), b.open("group=g"), b.open("group=h")
		for _, m := range []struct {
			kind    websocket.MessageType
			payload string
		}{
			{websocket.MessageText, "Grüße"},
			{websocket.MessageBinary, "\x00\xff"},
			{websocket.MessageText, `{"type":"ping"}`},
			{websocket.MessageBinary, ""},
			{websocket.MessageText, ""},
			{websocket.MessageBinary, "text"},
		} {
			say(t, sender, m.kind, m.payload)
			for name, c := range map[string]Conn{"sender": sender, "member": member} {
				if kind, got := read(t, c); kind != m.kind || got != m.payload {
					t.Errorf("the %s got %v %q, want %v %q", name, kind, got, m.kind, m.payload)
				}
			}
		}
		b.send(hub.Target{Groups: []string{"h"}}, hub.Text, "first")
		if _, got := read(t, stranger); got != "first" {
			t.Errorf("the stranger got %q", got)
		}
	})
}

// The query of a client with a token tells where its frames go. It does not prove the permission.
func TestPlainClientNeedsTheRoleToSendToItsGroup(t *testing.T) {
	key := tokenKey(t, "k")
	roles, err := auth.ParseRoles([]string{"webpubsub.sendToGroup.g"})
	if err != nil {
		t.Fatal(err)
	}
	publishing(t, func(t *testing.T, b *bed) {
		dial := func(c auth.Claims) *websocket.Conn {
			return b.dial("access_token=" + sign(t, key, audience, c) + toGroup)
		}
		member := dial(auth.Claims{Groups: []string{"g"}})
		allowed, forbidden := dial(auth.Claims{Roles: roles}), dial(auth.Claims{})
		say(t, forbidden, websocket.MessageText, "may not")
		wantClose(t, forbidden, websocket.StatusPolicyViolation, "you may not send to this group")
		say(t, allowed, websocket.MessageText, "may")
		if _, got := read(t, member); got != "may" {
			t.Errorf("the member got %q", got)
		}
		say(t, member, websocket.MessageBinary, "to be in is not to be allowed")
		wantClose(t, member, websocket.StatusPolicyViolation, "you may not send to this group")
		b.send(everyone, hub.Text, "to all")
		// and nothing before: it is not in the group
		if _, got := read(t, allowed); got != "to all" {
			t.Errorf("the sender got %q", got)
		}
	}, withTokens(key))
}

func TestModeThatIsNoneIsRefused(t *testing.T) {
	for _, query := range []string{
		"webpubsub_mode=sendToGroup", "webpubsub_mode=sendToGroup&group=",
		"webpubsub_mode=sendToGroup&group=a&group=b",
		"webpubsub_mode=sendToGroup&group=" + strings.Repeat("x", hub.MaxName+1),
		"webpubsub_mode=sendToGroup&group=" + url.QueryEscape("a\nb"),
		"webpubsub_mode=sendtogroup&group=g", "webpubsub_mode=other",
	} {
		publishing(t, func(t *testing.T, b *bed) {
			wantRefusal(t, b, b.ask("GET", "/client/hubs/default?"+query, nil),
				http.StatusBadRequest, "NAME_INVALID")
		})
	}
	bubble(t, func(t *testing.T, b *bed) { // without a Publisher there is no such mode
		wantRefusal(t, b, b.ask("GET", "/client/hubs/default?x"+toGroup, nil),
			http.StatusBadRequest, "NAME_INVALID")
	})
}
