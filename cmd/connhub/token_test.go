package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/devdir"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/nodetest"
	"github.com/connhub/connhub/test/bed"
)

// comes tells whether a client gets in with a token.
func comes(t *testing.T, hub *nodetest.Hub, token string) bool {
	t.Helper()
	conn, response, err := websocket.Dial(
		t.Context(), "ws://"+hub.Clients+"/client/hubs/default?access_token="+token, nil,
	)
	if response.Body != nil {
		_ = response.Body.Close()
	}
	if err != nil {
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("refused with %v", err)
		}
		return false
	}
	_ = conn.CloseNow()
	return true
}

// signed makes a token for the namespace default of https://hub.example/edge.
func signed(t *testing.T, method jwt.SigningMethod, key any) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, jwt.MapClaims{
		"aud": "https://hub.example/edge/client/hubs/default",
		"exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// serving runs `serve` with these flags on top of good ones.
func serving(t *testing.T, flags ...string) *nodetest.Hub {
	t.Helper()
	c, err := parse(t, bed.ServeArgs(t, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	return nodetest.Start(t, func(p *node.Config) { *p = plan })
}

func TestTheFirstTokenKeySignsAndEachChecks(t *testing.T) {
	t.Parallel()
	const oldKey = "token-key-of-last-year-0123456789-0123"
	hub := serving(t, "--token-key-file="+testkit.WriteFile(t, "old.key", oldKey+"\n"))
	for key, want := range map[string]bool{
		testkit.SomeKey: true, oldKey: true,
		testkit.OtherSecret: false,
	} {
		if have := comes(t, hub, signed(t, jwt.SigningMethodHS256, []byte(key))); have != want {
			t.Errorf("signed with %s: comes in %v", key, have)
		}
	}
	url := program.MustRun(t, "token", "--addr="+hub.Control,
		"--secret-file="+testkit.WriteFile(t, "s", testkit.SomeSecret),
		"--role=webpubsub.sendToGroup")
	_, token, _ := strings.Cut(strings.TrimSpace(url), "access_token=")
	claims := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) {
		return []byte(testkit.SomeKey), nil
	}); err != nil {
		t.Errorf("issued: %v", err)
	}
	if b, err := json.Marshal(claims["role"]); err != nil ||
		string(b) != `["webpubsub.sendToGroup"]` {
		t.Errorf("roles: %s, %v", b, err)
	}
}

func TestTokensOfSomebodyElseAreTakenByTheirPublicKeys(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := testkit.JWKSet(testkit.JWK(t, private.Public(), "1", `"use":"sig"`, `"alg":"ES256"`))
	hub := serving(t, "--token-jwks="+testkit.WriteFile(t, "jwks.json", set))
	if !comes(t, hub, signed(t, jwt.SigningMethodES256, private)) || !comes(
		t, hub, signed(t, jwt.SigningMethodHS256, []byte(testkit.SomeKey)),
	) {
		t.Error("refused")
	}
	if comes(t, hub, signed(t, jwt.SigningMethodHS256, []byte(set))) {
		t.Error("signed with what is public")
	}
	if got := testkit.Get(t, "http://"+hub.Ops+"/metrics", nil); !strings.Contains(
		got.Body, "\nconnhub_jwks_keys 1\n",
	) {
		t.Errorf("metrics: %s", got.Body)
	}
}

func TestAHubDoesNotStartWithoutTheKeysThatItWasToldOf(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "jwks.json")
	r := program.Run(t, "", bed.ServeArgs(t, "--token-jwks="+missing, "--log-level=error")...)
	if r.Code != terminal.ExitError ||
		r.Stderr != "connhub: --token-jwks: set of public keys: open "+
			missing+": no such file or directory\n" {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}
	// With public keys alone there is nothing to sign with.
	c, err := parse(t, "serve", "--single-hub", "--token-jwks=https://issuer.example/jwks",
		"--public-url=https://x", "--backend-secret-file="+
			testkit.WriteFile(t, "b", testkit.SomeSecret))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil || plan.KeySet.Source != "https://issuer.example/jwks" ||
		plan.KeySet.Interval != 5*time.Minute || len(plan.TokenKeys) != 0 {
		t.Errorf("%+v, %v", plan.KeySet, err)
	}
}

func TestAConnectionStringIsWhatServerSDKsTake(t *testing.T) {
	t.Parallel()
	key := testkit.WriteFile(t, "token.key", testkit.SomeKey+"\n")
	for public, endpoint := range map[string]string{
		"https://hub.example/edge": "https://hub.example/edge",
		"wss://hub.example":        "https://hub.example",
		"ws://127.0.0.1:8081":      "http://127.0.0.1:8081",
	} {
		r := program.Run(t, "", "token", "--connection-string",
			"--token-key-file="+key, "--token-key-file=/nowhere", "--public-url="+public)
		if want := "Endpoint=" + endpoint +
			";AccessKey=" + testkit.SomeKey + ";Version=1.0;\n"; r.Code != terminal.ExitOK ||
			r.Stdout != want {
			t.Errorf("exit %d, %q, want %q", r.Code, r.Stdout, want)
		}
		if strings.Contains(r.Stderr, testkit.SomeKey) {
			t.Errorf("the key is in what is said beside it: %s", r.Stderr)
		}
	}
	for _, c := range []struct{ key, public, want string }{
		{
			testkit.WriteFile(t, "semicolon", testkit.SomeKey+";"), "https://x",
			"a connection string can't carry it",
		},
		{"/nowhere", "https://x", "no such file"},
		{key, "ftp://x", "--public-url ftp://x: want"},
	} {
		r := program.Run(t, "", "token", "--connection-string",
			"--token-key-file="+c.key, "--public-url="+c.public)
		if r.Code != terminal.ExitUsage || !strings.Contains(r.Stderr, c.want) || r.Stdout != "" {
			t.Errorf("%s: exit %d, %q, %s", c.want, r.Code, r.Stdout, r.Stderr)
		}
	}
}

func TestTheConnectionStringOfDevNeedsNoFlags(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	for _, flag := range []string{
		"--user=ann", "--group=g", "--role=webpubsub.sendToGroup", "--label=k=v",
	} {
		name, _, _ := strings.Cut(flag, "=")
		if r := program.Run(t, "", "token", "--connection-string",
			flag); r.Code != terminal.ExitUsage ||
			!strings.Contains(r.Stderr, name+" has no effect with --connection-string") {
			t.Errorf("%s: exit %d, %s", flag, r.Code, r.Stderr)
		}
	}
	if r := program.Run(t, "", "token", "--connection-string"); r.Code != terminal.ExitUsage ||
		!strings.Contains(r.Stderr, "there is no key of connhub dev yet") {
		t.Errorf("before: exit %d, %s", r.Code, r.Stderr)
	}
	c := &devCmd{}
	if err := c.setDataDir(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tokenKey(); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(c.DataDir, devdir.TokenKey))
	if err != nil {
		t.Fatal(err)
	}
	want := "Endpoint=http://127.0.0.1:8080;AccessKey=" +
		strings.TrimSpace(string(key)) + ";Version=1.0;\n"
	if got := program.MustRun(t, "token", "--connection-string"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
