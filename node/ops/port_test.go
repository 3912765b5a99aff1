package ops_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/nodetest"
)

func TestOperationsPortTellsHealthMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	testkit.DialClient(t, hub.Clients, "user=ann")
	for path, want := range map[string]string{
		"/healthz":                       "alive\n",
		"/readyz":                        "ready\n",
		"/debug/invariants":              "all hold (1 connection)\n",
		"/debug/pprof/":                  "Types of profiles available",
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/cmdline":           "ops.test",
	} {
		if g := testkit.Get(t, "http://"+hub.Ops+path, nil); g.Code != 200 ||
			!strings.Contains(g.Body, want) {
			t.Errorf("%s: %d %.80q, want %q", path, g.Code, g.Body, want)
		}
	}
	metrics := testkit.Get(t, "http://"+hub.Ops+"/metrics", nil).Body
	for _, want := range []string{
		`connhub_build_info{go_version="go1.`, "go_goroutines ", "process_open_fds ",
		"connhub_handshakes_total{", "connhub_grpc_requests_total", "connhub_connections",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
	if g := testkit.Get(t, "http://"+hub.Ops+"/nothing", nil); g.Code != 404 {
		t.Errorf("/nothing: %d", g.Code)
	}
}

func TestOperationsPortOnLoopbackServesLoopbackNamesOnly(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "app.localhost:9100": 200, "127.0.0.1:9100": 200, "[::1]:1": 200,
		"evil.example": 403, "localhost.evil.example": 403, "192.0.2.1": 403,
	} {
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/invariants"} {
			if g := testkit.Get(
				t, "http://"+hub.Ops+path, map[string]string{"Host": host},
			); g.Code != want {
				t.Errorf("%s for Host %s: %d, want %d", path, host, g.Code, want)
			}
		}
		if g := testkit.Get(
			t, "http://"+hub.Ops+"/readyz", map[string]string{"Host": host},
		); g.Code != 200 {
			t.Errorf("/readyz for Host %s: %d", host, g.Code)
		}
	}
}

func TestOperationsPortWithSecretsAsksForOne(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, func(p *node.Config) {
		var err error
		if p.OpsSecrets, err = auth.LoadSecrets(map[auth.Role][]string{
			auth.RoleBackend: {testkit.WriteFile(t, "ops", testkit.OtherSecret+"\n")},
		}); err != nil {
			t.Fatal(err)
		}
	})
	for _, path := range []string{
		"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/invariants", "/nothing",
	} {
		for credential, want := range map[string]int{
			"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic " + testkit.OtherSecret: 401,
			testkit.OtherSecret:             401,
			"Bearer " + testkit.OtherSecret: 200, "bearer " + testkit.OtherSecret: 200,
		} {
			header := map[string]string{"Host": "hub.example"}
			if credential != "" {
				header["Authorization"] = credential
			}
			if want == 200 && path == "/nothing" {
				want = 404
			}
			g := testkit.Get(t, "http://"+hub.Ops+path, header)
			if g.Code != want || want == 401 && g.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d, want %d", path, credential, g.Code, want)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if g := testkit.Get(
			t, "http://"+hub.Ops+path, map[string]string{"Host": "10.1.2.3"},
		); g.Code != 200 {
			t.Errorf("%s without a secret: %d", path, g.Code)
		}
	}
}

func TestOperationsPortKeepsNoSocketForWhatNeverComes(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	for name, request := range map[string]string{
		"a body that never comes": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
			"100000\r\n\r\n",
		"a chunk": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n5\r\n",
		"a large body": "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
			"100000000\r\n\r\n",
		"options of all": "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", hub.Ops)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		// below the 60 s for which an idle connection is kept
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(
			string(answer), "HTTP/1.1 ",
		) {
			t.Errorf("%s: %.40q, %v; want an answer and the end", name, answer, err)
		}
	}
}

func TestProfilesAreBoundedInTimeAndNumber(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	for _, path := range []string{
		"profile?seconds=3600", "trace?seconds=301", "heap?seconds=1e9", "profile?seconds=NaN",
	} {
		if g := testkit.Get(t, "http://"+hub.Ops+"/debug/pprof/"+path, nil); g.Code != 400 {
			t.Errorf("%s: %d %s, want 400", path, g.Code, g.Body)
		}
	}
}
