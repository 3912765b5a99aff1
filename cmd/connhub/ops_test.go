package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

// got is an HTTP answer.
type got struct {
	code   int
	body   string
	header http.Header
}

func get(t *testing.T, url string, header map[string]string) got {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	request.Host = header["Host"]
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{response.StatusCode, string(body), response.Header}
}

func TestOperationsPortTellsHealthMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	hub := start(t, nil)
	dialClient(t, hub.clients, "user=ann")
	for path, want := range map[string]string{
		"/healthz":                       "alive\n",
		"/readyz":                        "ready\n",
		"/debug/invariants":              "all hold (1 connection)\n",
		"/debug/pprof/":                  "Types of profiles available",
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/cmdline":           "connhub",
	} {
		if g := get(t, "http://"+hub.ops+path, nil); g.code != 200 ||
			!strings.Contains(g.body, want) {
			t.Errorf("%s: %d %.80q, want %q", path, g.code, g.body, want)
		}
	}
	metrics := get(t, "http://"+hub.ops+"/metrics", nil).body
	for _, want := range []string{
		`connhub_build_info{go_version="go1.`, "go_goroutines ", "process_open_fds ",
		"connhub_handshakes_total{", "connhub_grpc_requests_total", "connhub_connections",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
	if g := get(t, "http://"+hub.ops+"/nothing", nil); g.code != 404 {
		t.Errorf("/nothing: %d", g.code)
	}
}

func TestOperationsPortOnLoopbackServesLoopbackNamesOnly(t *testing.T) {
	t.Parallel()
	hub := start(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "app.localhost:9100": 200, "127.0.0.1:9100": 200, "[::1]:1": 200,
		"evil.example": 403, "localhost.evil.example": 403, "192.0.2.1": 403,
	} {
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/invariants"} {
			if g := get(
				t, "http://"+hub.ops+path, map[string]string{"Host": host},
			); g.code != want {
				t.Errorf("%s for Host %s: %d, want %d", path, host, g.code, want)
			}
		}
		if g := get(
			t, "http://"+hub.ops+"/readyz", map[string]string{"Host": host},
		); g.code != 200 {
			t.Errorf("/readyz for Host %s: %d", host, g.code)
		}
	}
}

func TestOperationsPortWithSecretsAsksForOne(t *testing.T) {
	t.Parallel()
	hub := start(t, func(p *serverPlan) {
		var err error
		if p.opsSecrets, err = loadOpsSecrets(testkit.WriteFile(t, "ops",
			otherSecret+"\n")); err != nil {
			t.Fatal(err)
		}
	})
	for _, path := range []string{
		"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/invariants", "/nothing",
	} {
		for credential, want := range map[string]int{
			"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic " + otherSecret: 401,
			otherSecret:             401,
			"Bearer " + otherSecret: 200, "bearer " + otherSecret: 200,
		} {
			header := map[string]string{"Host": "hub.example"}
			if credential != "" {
				header["Authorization"] = credential
			}
			if want == 200 && path == "/nothing" {
				want = 404
			}
			g := get(t, "http://"+hub.ops+path, header)
			if g.code != want || want == 401 && g.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d, want %d", path, credential, g.code, want)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if g := get(
			t, "http://"+hub.ops+path, map[string]string{"Host": "10.1.2.3"},
		); g.code != 200 {
			t.Errorf("%s without a secret: %d", path, g.code)
		}
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	s, err := newOpsServer(
		opsConfig{connections: 1, registry: newRegistry(), logger: slog.New(slog.DiscardHandler)},
	)
	if err != nil {
		t.Fatal(err)
	}
	answer := func() (int, string) {
		w := newRecorder()
		s.http.Handler.ServeHTTP(w, newRequest(t, "/readyz"))
		return w.Code, w.Body.String()
	}
	if code, body := answer(); code != 503 || body != "starting\n" {
		t.Errorf("at first: %d %q", code, body)
	}
	s.setReady("")
	if code, body := answer(); code != 200 || body != "ready\n" {
		t.Errorf("serving: %d %q", code, body)
	}
	s.setReady(unreadyStopping)
	if code, body := answer(); code != 503 || body != "shutting down\n" {
		t.Errorf("stopping: %d %q", code, body)
	}
}

func TestOperationsPortKeepsNoSocketForWhatNeverComes(t *testing.T) {
	t.Parallel()
	hub := start(t, nil)
	for name, request := range map[string]string{
		"a body that never comes": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
			"100000\r\n\r\n",
		"a chunk": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n5\r\n",
		"a large body": "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
			"100000000\r\n\r\n",
		"options of all": "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", hub.ops)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		// below the 60 s for which an idle one is kept
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
	hub := start(t, nil)
	for _, path := range []string{
		"profile?seconds=3600", "trace?seconds=301", "heap?seconds=1e9", "profile?seconds=NaN",
	} {
		if g := get(t, "http://"+hub.ops+"/debug/pprof/"+path, nil); g.code != 400 {
			t.Errorf("%s: %d %s, want 400", path, g.code, g.body)
		}
	}
}

func TestOperationsPortAnswersProbesWhateverElseItDoes(t *testing.T) {
	s, err := newOpsServer(
		opsConfig{connections: 4, registry: newRegistry(), logger: slog.New(slog.DiscardHandler)},
	)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(s.working) {
		s.working <- struct{}{}
	}
	for path, want := range map[string]int{"/metrics": 503, "/healthz": 200} {
		w := newRecorder()
		request := newRequest(t, path)
		request.Host = "localhost"
		s.http.Handler.ServeHTTP(w, request)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if 2*cap(s.working) > 4 {
		t.Errorf("%d of 4 connections may be busy at once, want half", cap(s.working))
	}
}
