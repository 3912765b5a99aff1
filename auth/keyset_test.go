package auth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/testkit"
)

// site is a fake web site of an issuer. It answers with a text or an error after a delay.
type site struct {
	mu    sync.Mutex
	text  string
	err   error
	delay time.Duration
	asked int // requests
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked++
	text, err, delay := s.text, s.err, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	body := io.NopCloser(strings.NewReader(text))
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
}

func (s *site) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *site) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// withSite runs a test in a bubble. The test gets a KeySet that reads a site every minute; at first
// the set has the key "r".
func withSite(
	t *testing.T, test func(t *testing.T, w *site, s *KeySet, registry *prometheus.Registry),
) {
	t.Helper()
	first := testkit.JWKSet(testkit.JWK(t, newIssuer().rsa.Public(), "r"))
	synctest.Test(t, func(t *testing.T) {
		w, registry := &site{text: first}, prometheus.NewRegistry()
		s, err := OpenKeySet(t.Context(), KeySetConfig{
			Source: "https://issuer.example/jwks", Interval: time.Minute, Transport: w,
			Metrics: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, w, s, registry)
	})
}

// checkMetrics checks the counts of refreshes that succeeded and failed, and the number of keys.
func checkMetrics(t *testing.T, registry *prometheus.Registry, ok, failed, keys float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			have[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	delete(have, "connhub_jwks_refreshed_timestamp_seconds")
	want := map[string]float64{
		"connhub_jwks_refreshes_total ok": ok, "connhub_jwks_refreshes_total failed": failed,
		"connhub_jwks_keys": keys,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestASetIsReadAgainAtTheIntervalAndARemovedKeyIsInvalid(t *testing.T) {
	i := newIssuer()
	second := testkit.JWKSet(testkit.JWK(t, i.ec.Public(), "e"), testkit.JWK(t, i.ed.Public(), "o"))
	old, young := signAs(t, jwt.SigningMethodRS256, i.rsa, map[string]any{"kid": "r"}),
		signAs(t, jwt.SigningMethodES256, i.ec, map[string]any{"kid": "e"})
	withSite(t, func(t *testing.T, w *site, s *KeySet, registry *prometheus.Registry) {
		ask := func(token string) error {
			_, err := NewTokens(s).parseToken(token)
			return err
		}
		if err := ask(old); err != nil {
			t.Errorf("at first: %v", err)
		}
		w.set(func() { w.text = second })
		time.Sleep(time.Minute - time.Second) // the bubble's clock
		if err := ask(old); err != nil {
			t.Errorf("before the interval: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := ask(old); !errors.Is(err, errKeyUnknown) {
			t.Errorf("the old key: %v", err)
		}
		if err := ask(young); err != nil {
			t.Errorf("the new key: %v", err)
		}
		checkMetrics(t, registry, 2, 0, 2)
	})
}

func TestRefreshReadsASetAtOnceAndTellsWhetherItCould(t *testing.T) {
	i := newIssuer()
	second := testkit.JWKSet(testkit.JWK(t, i.ec.Public(), "e"))
	withSite(t, func(t *testing.T, w *site, s *KeySet, _ *prometheus.Registry) {
		for _, tt := range []struct {
			text string
			want bool
		}{{second, true}, {second, true}, {"nonsense", false}, {second, true}} {
			w.set(func() { w.text = tt.text })
			before := time.Now()
			if got := s.Refresh(t.Context()); got != tt.want || time.Since(before) >= keySetPause {
				t.Errorf("%.20q: %t after %v", tt.text, got, time.Since(before))
			}
			if len(s.findKeys("ES256", "e")) != 1 {
				t.Errorf("%.20q: the new key is not in force", tt.text)
			}
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if s.Refresh(done) {
			t.Error("Refresh reports success, but its context is done")
		}
	})
}

func TestASetThatCanNotBeReadLeavesTheLastOneInForce(t *testing.T) {
	for name, broken := range map[string]func(*site){
		"no answer":    func(w *site) { w.err = errors.New("connection refused") },
		"too slow":     func(w *site) { w.delay = time.Hour },
		"not a set":    func(w *site) { w.text = "<html>" },
		"no key in it": func(w *site) { w.text = `{"keys":[]}` },
		"too large": func(w *site) {
			w.text = `{"keys":[],"x":"` + strings.Repeat("x", maxKeySetBytes) + `"}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSite(t, func(t *testing.T, w *site, s *KeySet, registry *prometheus.Registry) {
				good := w.text
				w.set(func() { broken(w) })
				time.Sleep(time.Minute + keySetTimeout + time.Second) // the bubble's clock
				if len(s.findKeys("RS256", "r")) != 1 {
					t.Error("the key is gone")
				}
				checkMetrics(t, registry, 1, 1, 1)
				w.set(func() { w.err, w.delay, w.text = nil, 0, good })
				time.Sleep(keySetPause)
				checkMetrics(t, registry, 2, 1, 1) // after keySetPause, not after the interval
			})
		})
	}
}

func TestAnUnknownKeyCausesOneRefreshForAllItsTokens(t *testing.T) {
	i := newIssuer()
	second := testkit.JWKSet(testkit.JWK(t, i.ec.Public(), "e"))
	withSite(t, func(t *testing.T, w *site, s *KeySet, _ *prometheus.Registry) {
		if s.awaitNewKeys(t.Context()) || w.times() != 1 {
			t.Errorf("at once after the first: %d times", w.times())
		}
		time.Sleep(keySetPause) // the bubble's clock
		w.set(func() { w.text, w.delay = second, time.Second })
		began := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if !s.awaitNewKeys(t.Context()) || len(s.findKeys("ES256", "e")) != 1 {
					t.Error("the new key is not there")
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if s.awaitNewKeys(impatient) || time.Since(began) != time.Millisecond {
			t.Errorf("the impatient caller waited %v", time.Since(began))
		}
		all.Wait()
		if took := time.Since(began); w.times() != 2 || took != time.Second {
			t.Errorf("read %d times, in %v", w.times(), took)
		}
		for range 100 { // tokens of strangers, each with a made-up key id
			if s.awaitNewKeys(t.Context()) {
				t.Error("read again within the pause")
			}
		}
		time.Sleep(keySetPause)
		if !s.awaitNewKeys(t.Context()) || w.times() != 3 {
			t.Errorf("after the pause: %d times", w.times())
		}
	})
}

func TestATokenOfANewKeyIsTakenAtOnce(t *testing.T) {
	i := newIssuer()
	second := testkit.JWKSet(testkit.JWK(t, i.ed.Public(), "o"))
	withSite(t, func(t *testing.T, w *site, s *KeySet, _ *prometheus.Registry) {
		tokens := NewTokens(s)
		token := signAs(t, jwt.SigningMethodEdDSA, i.ed, map[string]any{"kid": "o"})
		_, err := tokens.Verify(t.Context(), token, testAudience)
		if !errors.Is(err, ErrTokenInvalid) || !strings.Contains(err.Error(), "unknown key") {
			t.Errorf("before: %v", err)
		}
		w.set(func() { w.text = second })
		time.Sleep(keySetPause) // the bubble's clock
		if _, err := tokens.Verify(t.Context(), token, testAudience); err != nil {
			t.Errorf("after: %v", err)
		}
	})
}

func TestVerifyAroundCallsAroundForAWait(t *testing.T) {
	i := newIssuer()
	withSite(t, func(t *testing.T, w *site, s *KeySet, _ *prometheus.Registry) {
		tokens := NewTokens(s)
		token := signAs(t, jwt.SigningMethodEdDSA, i.ed, map[string]any{"kid": "made-up"})
		time.Sleep(keySetPause) // the bubble's clock
		w.set(func() { w.delay = time.Hour })
		var waited time.Duration
		_, err := tokens.VerifyAround(token, testAudience, func(wait func(context.Context)) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			wait(ctx)
			waited = time.Since(began)
		})
		if !errors.Is(err, ErrTokenInvalid) || waited != time.Second {
			t.Errorf("%v after a wait of %v", err, waited)
		}
	})
}

func TestCloseEndsTheWaitForARefresh(t *testing.T) {
	withSite(t, func(t *testing.T, w *site, s *KeySet, _ *prometheus.Registry) {
		time.Sleep(keySetPause) // the bubble's clock
		w.set(func() { w.delay = time.Hour })
		done := make(chan struct{})
		go func() {
			s.awaitNewKeys(t.Context())
			close(done)
		}()
		synctest.Wait()
		s.Close()
		<-done
		if s.awaitNewKeys(t.Context()) {
			t.Error("renewed after Close")
		}
	})
}

func TestSetsComeFromFilesAndWebSites(t *testing.T) {
	set := testkit.JWKSet(testkit.JWK(t, newIssuer().ec.Public(), "e"))
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, set)
	})
	mux.Handle("/moved", http.RedirectHandler("/jwks", http.StatusFound))
	secure, plain := httptest.NewTLSServer(mux), httptest.NewServer(mux)
	defer secure.Close()
	defer plain.Close()
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ source, want string }{
		{secure.URL + "/jwks", ""},
		{plain.URL + "/jwks", ""},
		{strings.Replace(plain.URL, "127.0.0.1", "keys.localhost", 1) + "/jwks", ""},
		{file, ""},
		{secure.URL + "/none", "404"},
		{secure.URL + "/moved", "name the URL of the set itself"},
		{file + "x", "no such file"},
		{"http://issuer.example/jwks", "want a file, or https://"},
		{"https://u:p@issuer.example/jwks", "want a file, or https://"},
		{"ftp://issuer.example/jwks", "want a file, or https://"},
		{"https://", "want a file, or https://"},
		{"", "Source is not set"},
	} {
		var log bytes.Buffer
		config := DefaultKeySetConfig()
		config.Source, config.Logger = c.source, slog.New(slog.NewTextHandler(&log, nil))
		transport, _ := secure.Client().Transport.(*http.Transport)
		config.Transport = transport
		s, err := OpenKeySet(t.Context(), config)
		if err == nil {
			if len(s.findKeys("ES256", "")) != 1 || !strings.Contains(log.String(), "keys=1") {
				t.Errorf("%s: no key, log %s", c.source, &log)
			}
			s.Close()
		}
		transport.CloseIdleConnections()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.source, err, c.want)
		}
	}
	c := DefaultKeySetConfig()
	c.Source, c.Interval = plain.URL+"/jwks", keySetPause-1
	_, err := OpenKeySet(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "Interval") {
		t.Errorf("a short interval: %v", err)
	}
	c.Interval, c.Metrics = keySetPause, prometheus.NewRegistry()
	s, err := OpenKeySet(t.Context(), c) // with the default transport
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := OpenKeySet(t.Context(), c); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("a second set at one Registerer: %v", err)
	}
}
