package edge_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/plain"
)

func TestConfigNamesAllThatIsWrong(t *testing.T) {
	_, err := edge.New(edge.Config{
		Tokens:         &auth.Tokens{},
		AllowedOrigins: []string{"[", ""},
		Protocols:      []edge.Protocol{envelope.Protocol{}, envelope.Protocol{}, nil, named("a b")},
		PingInterval:   time.Millisecond,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"Hub is not set", "Plain is not set", "Logger is not set", "PublicURL is not set",
		`AllowedOrigins: "["`, `AllowedOrigins: ""`, "is there twice", "Protocols[2] is not set", `"a b" is not a subprotocol`,
		"MaxMessage is 0", "MessageTimeout is 0s", "PingInterval is 1ms, must be at least 1s", "PongTimeout", "CloseTimeout",
		"HandshakeTimeout",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %q in:\n%v", part, err)
		}
	}
}

// named is a protocol with a name of its own.
type named string

func (n named) Name() string                                         { return string(n) }
func (named) RouteKey(hub.Route) hub.Route                           { return hub.Route{} }
func (named) Encode(*hub.Message, hub.Route) []byte                  { return nil }
func (named) Receive(*hub.Connection, hub.PayloadKind, []byte) error { return nil }

func TestConfigThatLetsNobodyInIsRefused(t *testing.T) {
	c := goodConfig(t)
	c.Anonymous = false
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "nobody could connect") {
		t.Errorf("got %v", err)
	}
}

func TestPublicURLMustBeOneThatClientsCanUse(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://hub.test": true, "ws://hub.test:8080/prefix": true, "ftp://hub.test": false, "hub.test": false, "https:///x": false,
	} {
		c := goodConfig(t)
		var err error
		if c.PublicURL, err = url.Parse(text); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func goodConfig(t *testing.T) edge.Config {
	t.Helper()
	hc := hub.DefaultConfig()
	hc.ID = hub.NewID()
	h, err := hub.New(hc)
	if err != nil {
		t.Fatal(err)
	}
	c := edge.DefaultConfig()
	c.Hub, c.Plain, c.Anonymous = h, plain.Protocol{}, true
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}
