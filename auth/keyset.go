package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/loopback"
)

const (
	// maxKeySetBytes is the size limit of a set: MaxKeys keys with chains of certificates fit.
	maxKeySetBytes = 256 << 10
	// keySetTimeout limits a refresh, and so the wait of a client whose token names an unknown key.
	keySetTimeout = 3 * time.Second
	// keySetPause is the least time between two refreshes for unknown keys, which strangers can
	// cause with a made-up key id. It is also the wait after a refresh that failed.
	keySetPause = 10 * time.Second
)

// KeySetConfig configures a KeySet. Source is required. DefaultKeySetConfig sets the rest.
type KeySetConfig struct {
	// Source is the path of a file, or a URL: https, or http on loopback. Redirects are not
	// followed.
	Source string
	// Interval is the time between two refreshes, at least 10 s. A key that the issuer withdrew
	// stays valid for up to this time. After a refresh that failed the next follows in 10 s.
	Interval time.Duration

	// Transport fetches a URL. Nil: the root certificates of the system and the proxy of the
	// environment.
	Transport http.RoundTripper
	// Logger gets a line for each new set and for each refresh that failed. Nil: nothing is logged.
	Logger *slog.Logger
	// Metrics registers the instruments. Nil: they are not registered.
	Metrics prometheus.Registerer
}

// DefaultKeySetConfig returns a config with an Interval of 5 minutes and without a Source.
func DefaultKeySetConfig() KeySetConfig { return KeySetConfig{Interval: 5 * time.Minute} }

// Validate returns all problems of c.
func (c *KeySetConfig) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Source != "", "Source", "is not set")
	if strings.Contains(c.Source, "://") {
		u, err := url.Parse(c.Source)
		p.Require(err == nil && u.Host != "" && u.User == nil &&
			(u.Scheme == "https" || u.Scheme == "http" && loopback.IsHost(u.Host)),
			"Source", "is %s, want a file, or https:// and a host without user and password, "+
				"or http:// on loopback", config.QuoteURL(c.Source))
	}
	p.Require(c.Interval >= keySetPause,
		"Interval", "is %v, must be at least %v", c.Interval, keySetPause)
	return p
}

// KeySet holds the public keys of a foreign issuer of client tokens: a JWK Set (RFC 7517). It reads
// the set again at intervals, and when a token names an unknown key. If a refresh fails, the keys
// of the last good set stay valid. A nil KeySet has no keys. A KeySet is safe for concurrent use.
type KeySet struct {
	// Fixed at OpenKeySet.
	config  KeySetConfig
	client  *http.Client
	metrics keySetMetrics
	cancel  context.CancelFunc
	closing <-chan struct{}
	loop    sync.WaitGroup

	keys atomic.Pointer[[]publicKey] // the valid keys; stored by the loop

	wake chan struct{} // asks the loop for a refresh; room for a single request
	text []byte        // the set that keys was parsed from; owned by the loop

	mu      sync.Mutex
	began   time.Time     // start of the last refresh
	current bool          // the last refresh succeeded
	pending chan struct{} // closed when the requested or running refresh ends; nil: there is none
}

// OpenKeySet reads the set and starts a goroutine that refreshes it until Close. It returns an
// error if the set can't be read or has no usable key: a hub without keys would reject every
// client.
func OpenKeySet(ctx context.Context, c KeySetConfig) (*KeySet, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("key set config: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	if c.Transport == nil {
		// Refreshes are minutes apart, so each has a connection of its own.
		c.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	}
	s := &KeySet{
		config: c,
		client: &http.Client{
			Transport: c.Transport,
			CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				return fmt.Errorf("redirected to %s://%s: name the URL of the set itself",
					r.URL.Scheme, r.URL.Host)
			},
		},
		metrics: newKeySetMetrics(),
		wake:    make(chan struct{}, 1),
		began:   time.Now(),
	}
	if err := s.refreshKeys(ctx); err != nil {
		return nil, fmt.Errorf("set of public keys: %w", err)
	}
	// Not before, so that the caller can try again after an error.
	if err := s.metrics.registerWith(c.Metrics); err != nil {
		return nil, fmt.Errorf("key set metrics: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.closing = cancel, running.Done()
	s.loop.Go(func() { s.run(running) })
	return s, nil
}

// Close stops the refreshes and waits for the goroutine. Callers that wait for a refresh return.
func (s *KeySet) Close() {
	s.cancel()
	s.loop.Wait()
}

// findKeys returns the keys of an algorithm that may have signed a token. The id is the token's
// `kid`; a token without an id fits all keys, and a key without an id fits all tokens.
func (s *KeySet) findKeys(algorithm, id string) []jwt.VerificationKey {
	if s == nil {
		return nil
	}
	var found []jwt.VerificationKey
	for _, k := range *s.keys.Load() {
		if k.algorithm == algorithm && (id == "" || k.id == "" || k.id == id) {
			found = append(found, k.key)
		}
	}
	return found
}

// awaitNewKeys waits for a refresh, and requests it if none is pending. It reports whether a
// refresh ended, so that there may be new keys. It returns false at once if the last refresh began
// less than keySetPause ago. Concurrent callers wait for the same refresh.
func (s *KeySet) awaitNewKeys(ctx context.Context) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	if s.pending == nil {
		if time.Since(s.began) < keySetPause {
			s.mu.Unlock()
			return false
		}
		s.requestRefreshLocked()
	}
	pending := s.pending
	s.mu.Unlock()
	select {
	case <-pending: // after keySetTimeout at the latest
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// requestRefreshLocked asks the loop for a refresh. The caller must hold s.mu, and none may be
// pending.
func (s *KeySet) requestRefreshLocked() {
	s.pending = make(chan struct{})
	s.wake <- struct{}{} // never blocks: a single refresh is pending at a time
}

// Refresh reads the set now, without the pause after the last refresh, and waits for the result. It
// reports whether the set could be read. It returns false when ctx is done or the KeySet is closed.
func (s *KeySet) Refresh(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		mine := s.pending == nil
		if mine {
			s.requestRefreshLocked()
		}
		pending := s.pending
		s.mu.Unlock()
		select {
		case <-pending:
		case <-ctx.Done():
			return false
		case <-s.closing:
			return false
		}
		if mine { // a refresh that was pending before may have read the set before this call
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.current
		}
	}
	return false
}

// run refreshes the set at each interval and at each request.
func (s *KeySet) run(ctx context.Context) {
	timer := time.NewTimer(s.config.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		s.beginRefresh()
		next := s.config.Interval
		err := s.refreshKeys(ctx)
		if err != nil && ctx.Err() == nil {
			next = keySetPause
			s.config.Logger.Error("public keys of client tokens not read; the last keys stay valid",
				slog.Any("error", err))
		}
		s.endRefresh(err == nil)
		timer.Reset(next)
	}
}

// beginRefresh makes a refresh pending, also if the timer started it and no caller requested it.
func (s *KeySet) beginRefresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
	if s.pending == nil {
		s.pending = make(chan struct{})
	}
}

// endRefresh stores the result of the refresh and wakes the callers that wait for it.
func (s *KeySet) endRefresh(current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = current
	close(s.pending)
	s.pending = nil
	select {
	case <-s.wake: // the timer started the refresh, and a caller requested it before beginRefresh
	default:
	}
}

// refreshKeys reads the set, applies it and counts the result.
func (s *KeySet) refreshKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	text, err := s.readSource(ctx)
	if err == nil {
		err = s.applyKeys(text)
	}
	if err != nil {
		s.metrics.failed.Inc()
		return err
	}
	s.metrics.ok.Inc()
	s.metrics.refreshed.SetToCurrentTime()
	return nil
}

// applyKeys replaces the valid keys by those of a set, unless the text is that of the last set.
func (s *KeySet) applyKeys(text []byte) error {
	if s.keys.Load() != nil && bytes.Equal(text, s.text) {
		return nil
	}
	keys, unusable, err := parseKeys(text)
	if err != nil {
		return err
	}
	s.text = text
	s.keys.Store(&keys)
	s.metrics.keys.Set(float64(len(keys)))
	s.config.Logger.Info("public keys of client tokens read",
		slog.Int("keys", len(keys)), slog.Any("not_used", errors.Join(unusable...)))
	return nil
}

func (s *KeySet) readSource(ctx context.Context) ([]byte, error) {
	if !strings.Contains(s.config.Source, "://") {
		f, err := os.Open(s.config.Source)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return readSet(f)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Source, nil)
	if err != nil {
		return nil, err
	}
	if r.URL.Scheme == "http" {
		// Validate allows http only for names of this machine. With the address in place of the
		// name, the request needs neither DNS nor a proxy. The Host header, r.Host, keeps the name.
		r.URL.Host = loopback.Address(r.URL.Host)
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.config.Source, response.Status)
	}
	return readSet(response.Body)
}

func readSet(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeySetBytes+1))
	if err == nil && len(b) > maxKeySetBytes {
		err = fmt.Errorf("more than %d bytes", maxKeySetBytes)
	}
	return slices.Clip(b), err
}
