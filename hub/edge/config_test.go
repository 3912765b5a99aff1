package edge_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/internal/config"
)

func TestConfigNamesAllThatIsWrong(t *testing.T) {
	_, err := edge.New(edge.Config{
		Tokens:         &auth.Tokens{},
		AllowedOrigins: []string{"[", ""},
		Protocols: []edge.Protocol{
			envelope.Protocol{},
			envelope.Protocol{},
			nil,
			named("a b"),
			listed{named("b"), nil},
		},
		PingInterval: time.Millisecond,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"Hub is not set", "Plain is not set", "PublicURL is not set",
		`AllowedOrigins "["`, `AllowedOrigins ""`, "is there twice", "Protocols[2] is not set",
		`"a b" is not a subprotocol`, "Protocols[4] edge_test.listed is not comparable",
		"MaxMessage is 0", "MessageTimeout is 0s", "PingInterval is 1ms, must be at least 1s",
		"PongTimeout", "CloseTimeout",
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
func (named) Receive(*hub.Connection, hub.PayloadKind, []byte) error { return nil }
func (named) AppendMessage(
	dst []byte, _ *hub.Message, _ hub.Route,
) ([]byte, hub.PayloadKind) {
	return dst, hub.Text
}

// listed is a protocol that no map can have as a key.
type listed struct {
	named
	_ []string
}

func TestPlainProtocolThatIsNotComparableIsRefused(t *testing.T) {
	c := goodConfig(t)
	c.Plain = listed{}
	p := c.Validate()
	if len(p) != 1 || p[0].Field != "Plain" || !strings.Contains(p[0].Text, "not comparable") {
		t.Errorf("got %v", p)
	}
}

func TestConfigThatLetsNobodyInIsRefused(t *testing.T) {
	c := goodConfig(t)
	c.Anonymous = false
	p := c.Validate()
	if len(p) != 1 || p[0].Field != "Tokens" ||
		!strings.Contains(p[0].Text, "no client could connect") {
		t.Errorf("got %v", p)
	}
}

func TestOriginPatternsThatNoBrowserMatchesAreRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"*": "", "app.example.com": "", "localhost:*": "", "https://*.example.com": "",
		"HTTPS://App.example.com:8443": "", "https://*": "",
		"http://[[]::1]:3000": "", "app.example.com:443": "", "https://app.example.com:80": "",
		"capacitor://localhost": "", "chrome-extension://abc": "",
		"null": "sandboxed frames", "NULL": "sandboxed frames", "": "not a pattern",
		"[": "not a pattern", "https://": "has no host",
		"https://app.example.com/": "an origin is", "app.example.com/path": "an origin is",
		"https://user@app.example.com": "an origin is",
		" app.example.com":             "an origin is",
		"a.example.com b.example.com":  "an origin is",
		"wss://app.example.com":        "where the page comes from",
		"ws://*":                       "where the page comes from",
		"https://app.example.com:443":  "leave out the port 443 of https",
		"http://*:80":                  "leave out the port 80 of http",
	} {
		c := goodConfig(t)
		c.AllowedOrigins = []string{pattern}
		switch err := c.Validate().Err(); {
		case want == "" && err != nil,
			want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
	for pattern, ok := range map[string]bool{
		"app.example.com": false, "https://app.example.com": false, "10.0.0.1": false,
		"localhost:3000": true, "http://127.0.0.1": true, "http://app.localhost:*": true, "*": true,
		"http://*": true,
	} {
		c := goodConfig(t)
		c.AllowedOrigins, c.LoopbackOnly = []string{pattern}, true
		if err := c.Validate().Err(); (err == nil) != ok {
			t.Errorf("%q for this machine only: %v", pattern, err)
		}
	}
}

func TestPublicURLMustBeOneThatClientsCanUse(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://hub.test": true, "ws://hub.test:8080/prefix": true, "ftp://hub.test": false,
		"hub.test": false, "https:///x": false,
		"https://u:p@hub.test": false, "https://hub.test?a=b": false, "https://hub.test#a": false,
	} {
		c := goodConfig(t)
		var err error
		if c.PublicURL, err = url.Parse(text); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate().Err(); (err == nil) != ok {
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
	if err := c.Validate().Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLimitThatNoMessageCanReachIsRefused(t *testing.T) {
	c := goodConfig(t)
	for most, ok := range map[int64]bool{
		hub.MaxPayload: true, hub.MaxPayload + 1: false,
		17 << 20: false,
	} {
		c.MaxMessage = most
		if err := c.Validate().Err(); (err == nil) != ok ||
			!ok && !strings.Contains(err.Error(), "must be at most 1048576") {
			t.Errorf("%d: %v", most, err)
		}
	}
}

func TestTwoServersCannotShareTheInstrumentsOfARegisterer(t *testing.T) {
	c := goodConfig(t)
	c.Metrics = prometheus.NewRegistry()
	if _, err := edge.New(c); err != nil {
		t.Fatal(err)
	}
	if _, err := edge.New(c); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("a second server: %v", err)
	}
}
