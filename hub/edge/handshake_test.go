package edge_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
)

var publicURL = &url.URL{Scheme: "wss", Host: "hub.test"}

// audience is that of the default namespace.
var audience = auth.Audience(publicURL, hub.DefaultNamespace)

func tokenKey(t *testing.T, fill string) *auth.TokenKey {
	t.Helper()
	k, err := auth.NewTokenKey([]byte(strings.Repeat(fill, auth.MinKeyBytes)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, k *auth.TokenKey, audience string, c auth.Claims) string {
	t.Helper()
	if c.Expires.IsZero() {
		c.Expires = time.Now().Add(time.Hour)
	}
	token, err := k.Sign(audience, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// signRaw signs claims that Sign would not, with the key of k's.
func signRaw(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	head := enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc([]byte(claims))
	mac := hmac.New(sha256.New, []byte(strings.Repeat("k", auth.MinKeyBytes)))
	_, _ = io.WriteString(mac, head)
	return head + "." + enc(mac.Sum(nil))
}

// answer is a response that was read; that of an upgrade has no body.
type answer struct {
	status int
	header http.Header
	body   string
}

func readAnswer(t *testing.T, resp *http.Response) answer {
	t.Helper()
	t.Cleanup(func() { _ = resp.Body.Close() })
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.status != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		a.body = string(body)
	}
	return a
}

// ask sends a request. header is added to a good upgrade's header, and an empty value takes a field
// away.
func (b *bed) ask(method, target string, header map[string]string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://hub.test"+target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	all := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}
	maps.Copy(all, header)
	for name, value := range all {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return readAnswer(b.t, resp)
}

// wantRefusal checks a problem document, and that nothing was registered.
func wantRefusal(t *testing.T, b *bed, resp answer, status int, reason string) {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(resp.body), &p); err != nil {
		t.Fatalf("status %d, body %q: %v", resp.status, resp.body, err)
	}
	detail, _ := p["detail"].(string)
	delete(p, "detail")
	want := map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": float64(status),
		"reason": reason,
	}
	if diff := cmp.Diff(want, p); diff != "" || detail == "" || resp.status != status {
		t.Errorf("status %d, detail %q, problem (-want +got):\n%s", resp.status, detail, diff)
	}
	if got := resp.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if got := b.metric("connhub_handshakes_total", "result", strings.ToLower(reason)); got != 1 {
		t.Errorf("counted %v times", got)
	}
	if got := b.hub.Len(); got != 0 {
		t.Errorf("%d connections are registered", got)
	}
}

func TestRefusedHandshakeSaysWhyAndLeavesNothing(t *testing.T) {
	long := strings.Repeat("x", hub.MaxName+1)
	groups := strings.Repeat("&group=g", hub.MaxGroups+1)
	for _, tc := range []struct {
		name   string
		method string
		target string
		header map[string]string
		status int
		reason string
	}{
		{"no such endpoint", "GET", "/client/hub", nil, 404, "NOT_FOUND"},
		{"no namespace", "GET", "/client/hubs/", nil, 404, "NOT_FOUND"},
		{"below a namespace", "GET", "/client/hubs/a/b", nil, 404, "NOT_FOUND"},
		{"no page", "GET", "/", nil, 404, "NOT_FOUND"},
		{"REST API", "GET", "/api/hubs/chat/users/ann/groups", nil, 501, "NOT_IMPLEMENTED"},
		{
			"REST API, any method", "DELETE", "/api/hubs/chat/connections/c", nil, 501,
			"NOT_IMPLEMENTED",
		},
		{"REST API, any path", "POST", "/api/x", nil, 501, "NOT_IMPLEMENTED"},
		{"method", "POST", "/ws", nil, 405, "METHOD_NOT_ALLOWED"},
		{"namespace starts with a digit", "GET", "/client/hubs/1a", nil, 400, "NAMESPACE_INVALID"},
		{"namespace with a space", "GET", "/client/hubs/a%20b", nil, 400, "NAMESPACE_INVALID"},
		{
			"namespace too long", "GET", "/client/hubs/" + strings.Repeat("a", 129), nil, 400,
			"NAMESPACE_INVALID",
		},
		{"no upgrade", "GET", "/ws", map[string]string{"Upgrade": ""}, 400, "UPGRADE_INVALID"},
		{
			"other upgrade", "GET", "/ws",
			map[string]string{"Upgrade": "h2c"},
			400,
			"UPGRADE_INVALID",
		},
		{
			"no connection", "GET", "/ws",
			map[string]string{"Connection": "keep-alive"},
			400,
			"UPGRADE_INVALID",
		},
		{
			"version", "GET", "/ws",
			map[string]string{"Sec-WebSocket-Version": "8"},
			400,
			"UPGRADE_INVALID",
		},
		{
			"no key", "GET", "/ws",
			map[string]string{"Sec-WebSocket-Key": ""},
			400,
			"UPGRADE_INVALID",
		},
		{
			"short key", "GET", "/ws",
			map[string]string{"Sec-WebSocket-Key": "AAAA"},
			400,
			"UPGRADE_INVALID",
		},
		{"broken query", "GET", "/ws?user=%zz", nil, 400, "UPGRADE_INVALID"},
		{"user too long", "GET", "/ws?user=" + long, nil, 400, "NAME_INVALID"},
		{"user with a control character", "GET", "/ws?user=a%0ab", nil, 400, "NAME_INVALID"},
		{"user that is not UTF-8", "GET", "/ws?user=%ff", nil, 400, "NAME_INVALID"},
		{"empty group", "GET", "/ws?group=a&group=", nil, 400, "NAME_INVALID"},
		{"too many groups", "GET", "/ws?" + groups, nil, 400, "GROUP_LIMIT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				wantRefusal(t, b, b.ask(tc.method, tc.target, tc.header), tc.status, tc.reason)
			})
		})
	}
}

func TestHTTP10CanNotUpgrade(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.connect()
		c.write("GET /ws HTTP/1.0\r\n" + upgradeHeader + "\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, b, readAnswer(t, resp), 400, "UPGRADE_INVALID")
	})
}

func TestNamespaceIsComparedInLowerCase(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		if resp := b.ask("GET", "/client/hubs/Chat.App-1",
			nil); resp.status != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", resp.status)
		}
		infos, _, err := b.hub.Connections("chat.app-1", &everyone, hub.Cursor{}, 10)
		if err != nil || len(infos) != 1 {
			t.Errorf("%d connections, %v", len(infos), err)
		}
	})
}

// withTokens asks for tokens and takes no anonymous client.
func withTokens(k *auth.TokenKey) setup {
	return func(_ *hub.Config, c *edge.Config) {
		c.Tokens, c.Anonymous, c.PublicURL = auth.NewTokens(nil, k), false, publicURL
	}
}

func TestGoodTokenTellsUserAndGroups(t *testing.T) {
	key := tokenKey(t, "k")
	for name, place := range map[string]func(token string) (string, map[string]string){
		"query": func(token string) (string, map[string]string) {
			return "/ws?access_token=" + token, nil
		},
		"header": func(token string) (string, map[string]string) {
			return "/ws", map[string]string{"Authorization": "bearer " + token}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				token := sign(t, key, audience,
					auth.Claims{User: "ann", Groups: []string{"blue", "red"}})
				target, header := place(token)
				if resp := b.ask("GET", target,
					header); resp.status != http.StatusSwitchingProtocols {
					t.Fatalf("status %d", resp.status)
				}
				info := b.infos()[0]
				if diff := cmp.Diff([]string{"blue", "red"}, info.Groups); diff != "" ||
					info.User != "ann" {
					t.Errorf("user %q, groups (-want +got):\n%s", info.User, diff)
				}
			}, withTokens(key))
		})
	}
}

func TestBadTokenIsRefused(t *testing.T) {
	key := tokenKey(t, "k")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"`+audience+`","exp":9999999999}`)) +
		"."
	for _, tc := range []struct {
		name   string
		token  func(t *testing.T) string
		status int
		reason string
	}{
		{"missing", func(*testing.T) string { return "" }, 401, "TOKEN_MISSING"},
		{"garbage", func(*testing.T) string { return "garbage" }, 401, "TOKEN_INVALID"},
		{"unsigned", func(*testing.T) string { return none }, 401, "TOKEN_INVALID"},
		{
			"wrong key",
			func(t *testing.T) string { return sign(t, tokenKey(t, "x"), audience, auth.Claims{}) },
			401, "TOKEN_INVALID",
		},
		{
			"other namespace",
			func(t *testing.T) string {
				return sign(t, key, auth.Audience(publicURL, "other"),
					auth.Claims{})
			}, 401, "TOKEN_INVALID",
		},
		{"other hub", func(t *testing.T) string {
			return sign(t, key, auth.Audience(&url.URL{Scheme: "wss", Host: "else.test"},
				hub.DefaultNamespace), auth.Claims{})
		}, 401, "TOKEN_INVALID"},
		{"expired", func(t *testing.T) string {
			return sign(t, key, audience,
				auth.Claims{Expires: time.Now().Add(-auth.ClockLeeway - 2*time.Second)})
		}, 401, "TOKEN_EXPIRED"},
		{"bad group", func(*testing.T) string {
			return signRaw(`{"aud":"` + audience +
				`","exp":9999999999,"webpubsub.group":["a\u0000"]}`)
		}, 400, "NAME_INVALID"},
		{"bad role", func(*testing.T) string {
			return signRaw(`{"aud":"` + audience +
				`","exp":9999999999,"role":"webpubsub.sendToGroups.\\"}`)
		}, 400, "NAME_INVALID"},
		{"issued in the future", func(*testing.T) string {
			return signRaw(`{"aud":"` + audience + `","exp":9999999999,"iat":9999999998}`)
		}, 401, "TOKEN_INVALID"},
		{"bad user", func(*testing.T) string {
			return signRaw(`{"aud":"` + audience +
				`","exp":9999999999,"sub":"a\nb"}`)
		}, 400, "NAME_INVALID"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				resp := b.ask("GET", "/ws?access_token="+tc.token(t), nil)
				if got := resp.header.Get("WWW-Authenticate"); (got != "") != (tc.status == 401) {
					t.Errorf("WWW-Authenticate %q", got)
				}
				wantRefusal(t, b, resp, tc.status, tc.reason)
			}, withTokens(key))
		})
	}
}

func TestAnonymousModeHonoursATokenAllTheSame(t *testing.T) {
	key := tokenKey(t, "k")
	both := func(_ *hub.Config, c *edge.Config) {
		c.Tokens, c.PublicURL = auth.NewTokens(nil, key), publicURL
	}
	bubble(t, func(t *testing.T, b *bed) {
		b.ask("GET", "/ws?user=eve&access_token="+sign(t, key, audience, auth.Claims{User: "ann"}),
			nil)
		if got := b.infos()[0].User; got != "ann" {
			t.Errorf("user %q", got)
		}
	}, both)
	bubble(t, func(t *testing.T, b *bed) {
		wantRefusal(t, b, b.ask("GET", "/ws?user=eve&access_token=garbage", nil), 401,
			"TOKEN_INVALID")
	}, both)
}

func TestOriginsAreChecked(t *testing.T) {
	patterns := []string{"app.example.com", "https://*.example.org", "localhost:*"}
	for _, tc := range []struct {
		origin   string
		allowed  []string
		loopback bool
		host     string
		want     int
		reason   string
	}{
		{"", patterns, false, "", 101, ""}, // not a browser
		{"https://evil.test", nil, false, "", 101, ""},
		{"https://app.example.com", patterns, false, "", 101, ""},
		{"http://APP.example.com", patterns, false, "", 101, ""},
		{"https://app.example.com:8443", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"https://a.example.org", patterns, false, "", 101, ""},
		{"http://a.example.org", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"https://example.org.evil.test", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"http://localhost:3000", patterns, false, "", 101, ""},
		{"https://hub.test", patterns, false, "", 101, ""}, // the hub's own page
		{"http://hub.test", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"null", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"null", []string{"*"}, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"://", patterns, false, "", 403, "ORIGIN_NOT_ALLOWED"},
		{"http://localhost:8080", nil, true, "localhost:8080", 101, ""},
		{"http://127.0.0.1:8080", nil, true, "127.0.0.1:8080", 101, ""},
		{"http://[::1]:8080", nil, true, "[::1]:8080", 101, ""},
		{"", nil, true, "dev.localhost", 101, ""},
		{"", nil, true, "[::ffff:127.0.0.1]:80", 101, ""},
		{"", nil, true, "evil.test", 403, "HOST_NOT_ALLOWED"}, // DNS rebinding
		{"", nil, true, "127.0.0.1.evil.test:80", 403, "HOST_NOT_ALLOWED"},
		{"https://evil.test", nil, true, "localhost", 403, "ORIGIN_NOT_ALLOWED"},
		{"null", nil, true, "localhost", 403, "ORIGIN_NOT_ALLOWED"},
	} {
		t.Run(tc.origin+" to "+tc.host, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				resp := b.ask("GET", "/ws", map[string]string{"Origin": tc.origin, "Host": tc.host})
				if tc.want == 403 {
					wantRefusal(t, b, resp, 403, tc.reason)
				} else if resp.status != tc.want {
					t.Errorf("status %d", resp.status)
				}
			}, func(_ *hub.Config, c *edge.Config) {
				c.AllowedOrigins, c.LoopbackOnly = tc.allowed, tc.loopback
			})
		})
	}
}

func TestFullHubSaysWhenToComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		b.dial("")
		resp := b.ask("GET", "/ws", nil)
		if resp.status != 503 {
			t.Errorf("status %d", resp.status)
		}
		wantRetry(t, resp.header, 5, 15)
		if got := b.metric("connhub_handshakes_total", "result", "hub_full"); got != 1 {
			t.Errorf("counted %v times", got)
		}
	}, func(c *hub.Config, _ *edge.Config) { c.MaxConnections = 1 })
}

func TestLeavingHubRefusesHandshakes(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		if err := b.hub.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		resp := b.ask("GET", "/ws", nil)
		if resp.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		wantRefusal(t, b, resp, 503, "SHUTTING_DOWN")
	})
}

func TestPageAnswersWhereClientsDoNot(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "page "+r.URL.Path)
	})
	with := func(_ *hub.Config, c *edge.Config) { c.Page, c.LoopbackOnly = page, true }
	bubble(t, func(t *testing.T, b *bed) {
		for path, want := range map[string]string{
			"/": "page /", "/app.js": "page /app.js",
			"/wss": "page /wss",
		} {
			if got := b.ask("GET", path, map[string]string{"Host": "localhost"}).body; got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
		wantRefusal(t, b, b.ask("GET", "/client/x", map[string]string{"Host": "localhost"}), 404,
			"NOT_FOUND")
		wantRefusal(t, b, b.ask("GET", "/api/health", map[string]string{"Host": "localhost"}), 501,
			"NOT_IMPLEMENTED")
		wantRefusal(t, b, b.ask("GET", "/", map[string]string{"Host": "evil.test"}), 403,
			"HOST_NOT_ALLOWED")
	}, with)
}

func TestQueryIsNeverLoggedOrEchoed(t *testing.T) {
	var log bytes.Buffer
	key := tokenKey(t, "k")
	bubble(t, func(t *testing.T, b *bed) {
		resp := b.ask("GET", "/ws?access_token=secretsecret&user=secretsecret", nil)
		if strings.Contains(resp.body, "secretsecret") {
			t.Errorf("body %q", resp.body)
		}
		b.ask("GET", "/ws?access_token="+sign(t, key, audience, auth.Claims{User: "secretsecret"}),
			nil)
		b.done()
	}, withTokens(key), func(_ *hub.Config, c *edge.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	if got := log.String(); strings.Contains(got, "secretsecret") ||
		!strings.Contains(got, "token_invalid") {
		t.Errorf("log:\n%s", got)
	}
}

func TestStuckHandshakesAreCutOff(t *testing.T) {
	for name, bytes := range map[string]string{
		"silent":        "",
		"half a header": "GET /ws HTTP/1.1\r\nHost: h",
		"half a body":   "GET /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				c := b.connect()
				began := time.Now()
				c.write(bytes)
				_, _ = io.Copy(io.Discard, c.conn)
				if took := time.Since(began); took > 2*edge.DefaultConfig().HandshakeTimeout {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestClientThatDoesNotReadTheAnswerLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.connect()
		c.write("GET /ws HTTP/1.1\r\n" + upgradeHeader + "\r\n")
		time.Sleep(edge.DefaultConfig().HandshakeTimeout + time.Second) // the bubble's clock
		synctest.Wait()
		_ = c.conn.Close()
		synctest.Wait()
		if got := b.hub.Len(); got != 0 {
			t.Errorf("%d connections", got)
		}
	})
}

func TestHugeHeaderIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		resp := b.ask("GET", "/ws", map[string]string{"X-Huge": strings.Repeat("x", 24<<10)})
		if resp.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.status)
		}
	})
}

func TestUpgradeThatFailsAfterAttachLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		// A recorder can't be hijacked.
		b.edge.Handler().ServeHTTP(httptest.NewRecorder(), upgradeRequest(t))
		if got := b.causes.all(); len(got) != 1 || got[0].Cause != cause.Handshake ||
			b.hub.Len() != 0 {
			t.Errorf("closes %+v, %d connections", got, b.hub.Len())
		}
		if got := b.metric("connhub_handshakes_total", "result", "upgrade_failed"); got != 1 {
			t.Errorf("counted %v times", got)
		}
	})
}

func TestServerThatShutsDownRefusesHandshakes(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		b.done()
		w := httptest.NewRecorder()
		b.edge.Handler().ServeHTTP(w, upgradeRequest(t))
		wantRefusal(t, b, readAnswer(t, w.Result()), 503, "SHUTTING_DOWN")
	})
}

func upgradeRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(
		bufio.NewReader(strings.NewReader("GET /ws HTTP/1.1\r\n" + upgradeHeader + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r.WithContext(t.Context())
}

// The order of a client's subprotocols counts. The hub has no order.
func TestClientGetsTheFirstSubprotocolThatIsKnown(t *testing.T) {
	b := overTCP(t, func(_ *hub.Config, c *edge.Config) {
		c.Protocols = []edge.Protocol{envelope.Protocol{}, counted{}}
	})
	one, other := envelope.Name, counted{}.Name()
	for offer, want := range map[string]string{
		one + ", " + other: one,
		other + "," + one:  other,
		"unknown," + other: other,
		"unknown":          "",
	} {
		c, header := b.upgradeWith("", "Sec-WebSocket-Protocol: "+offer+"\r\n\r\n")
		if got := header.Get("Sec-WebSocket-Protocol"); got != want {
			t.Errorf("%q: got %q", offer, got)
		}
		_ = c.conn.Close()
	}
}
