package ops

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestReadinessSaysWhyNot(t *testing.T) {
	s, err := New(
		Config{Connections: 1, Registry: NewRegistry("v1")},
	)
	if err != nil {
		t.Fatal(err)
	}
	answer := func() (int, string) {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet,
			"/readyz", nil))
		return w.Code, w.Body.String()
	}
	if code, body := answer(); code != 503 || body != "starting\n" {
		t.Errorf("at first: %d %q", code, body)
	}
	s.SetReady("")
	if code, body := answer(); code != 200 || body != "ready\n" {
		t.Errorf("serving: %d %q", code, body)
	}
	s.SetReady(ReasonStopping)
	if code, body := answer(); code != 503 || body != "shutting down\n" {
		t.Errorf("stopping: %d %q", code, body)
	}
}

func TestOperationsPortAnswersProbesWhateverElseItDoes(t *testing.T) {
	s, err := New(
		Config{Connections: 4, Registry: NewRegistry("v1")},
	)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(s.working) {
		s.working <- struct{}{}
	}
	for path, want := range map[string]int{"/metrics": 503, "/healthz": 200} {
		w := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
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
