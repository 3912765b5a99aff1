package console_test

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/console"
	"github.com/connhub/connhub/node/nodetest"
)

func TestPageIsServedWithAStrictPolicy(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/?user=ann&group=blue": "text/html; charset=utf-8",
		"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
		"/icon.svg": "image/svg+xml",
	} {
		g := testkit.Get(t, "http://"+hub.Clients+path, nil)
		if g.Code != 200 || g.Header.Get("Content-Type") != kind ||
			g.Header.Get("Content-Security-Policy") != console.Policy ||
			g.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, g.Code, g.Header)
		}
	}
	if body := testkit.Get(t, "http://"+hub.Clients+"/", nil).Body; !strings.Contains(
		body, `data-addr="`+hub.Control+`"`,
	) {
		t.Error("the page does not know where backends call")
	}
	for _, path := range []string{"/index.html", "/page/", "/nothing", "/client/", "/../main.go"} {
		if g := testkit.Get(t, "http://"+hub.Clients+path, nil); g.Code != 404 {
			t.Errorf("%s: %d", path, g.Code)
		}
	}
	if g := testkit.Get(
		t, "http://"+hub.Clients+"/", map[string]string{"Host": "evil.example"},
	); g.Code != 403 {
		t.Errorf("for another host: %d", g.Code)
	}
}
