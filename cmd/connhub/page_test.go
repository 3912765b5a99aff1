package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func newRequest(t *testing.T, path string) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
}

func TestPageIsServedWithAStrictPolicy(t *testing.T) {
	t.Parallel()
	hub := start(t, nil)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/?user=ann&group=blue": "text/html; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
		"/icon.svg": "image/svg+xml",
	} {
		g := get(t, "http://"+hub.clients+path, nil)
		if g.code != 200 || g.header.Get("Content-Type") != kind ||
			g.header.Get("Content-Security-Policy") != pagePolicy ||
			g.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, g.code, g.header)
		}
	}
	if body := get(t, "http://"+hub.clients+"/", nil).body; !strings.Contains(
		body, `data-addr="`+hub.control+`"`,
	) {
		t.Error("the page does not know where backends call")
	}
	for _, path := range []string{"/index.html", "/page/", "/nothing", "/client/", "/../main.go"} {
		if g := get(t, "http://"+hub.clients+path, nil); g.code != 404 {
			t.Errorf("%s: %d", path, g.code)
		}
	}
	if g := get(
		t, "http://"+hub.clients+"/", map[string]string{"Host": "evil.example"},
	); g.code != 403 {
		t.Errorf("for another host: %d", g.code)
	}
}

func TestPageRefusesToBeWrittenTo(t *testing.T) {
	p, err := newPage("127.0.0.1:9090")
	if err != nil {
		t.Fatal(err)
	}
	w := newRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	w = newRecorder()
	p.ServeHTTP(w, newRequest(t, "/"))
	if !strings.Contains(w.Body.String(), `data-addr=""`) {
		t.Error("commands name the address that is their default anyway")
	}
}

// The policy would stop what these find, but only in a browser.
func TestPageHasNothingFromElsewhereAndNothingInline(t *testing.T) {
	files, err := fs.Glob(pageFiles, "page/*")
	if err != nil || len(files) != 4 {
		t.Fatalf("files: %v, %v", files, err)
	}
	forbidden := regexp.MustCompile(
		`(?i)https?://(?:[^w]|w[^w])|innerHTML|outerHTML|insertAdjacentHTML|document\.write|` +
			`\son\w+=|style=|<script>|<style|javascript:|@import|eval\(`,
	)
	for _, name := range files {
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.FindString(string(content)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}
