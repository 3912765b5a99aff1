package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestPageRefusesToBeWrittenTo(t *testing.T) {
	p, err := New("127.0.0.1:9090")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if !strings.Contains(w.Body.String(), `data-addr=""`) {
		t.Error("commands name the address that is their default anyway")
	}
}

// The policy would stop the same elements, but only in a browser.
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
