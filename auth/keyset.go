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

	"github.com/connhub/connhub/internal/loopback"
)

const (
	// maxKeySetBytes is the most that is read of a set: 32 keys with chains of certificates.
	maxKeySetBytes = 256 << 10
	// keySetTimeout is how long reading a set may take, and so how long a client with an unknown key may wait.
	keySetTimeout = 3 * time.Second
	// keySetPause is the least time between two reads. Strangers can cause one, with a made-up key id.
	keySetPause = 10 * time.Second
)

// KeySetConfig says where the public keys of client tokens are. DefaultKeySetConfig fills in the interval; Source must be set
// besides.
type KeySetConfig struct {
	// Source is a file, or a URL: https, or http on loopback. Redirections are not followed.
	Source string
	// Interval is how often the set is read again: how long a key that was withdrawn is still good. After a failure it is
	// tried again sooner.
	Interval time.Duration

	Transport http.RoundTripper     // nil: the system's trust, and the proxy of the environment
	Logger    *slog.Logger          // nil: nothing is logged
	Metrics   prometheus.Registerer // may be nil
}

// DefaultKeySetConfig is a good start.
func DefaultKeySetConfig() KeySetConfig { return KeySetConfig{Interval: 5 * time.Minute} }

// Validate returns all that is wrong with c, or nil.
func (c *KeySetConfig) Validate() error {
	var errs []error
	if c.Source == "" {
		errs = append(errs, errors.New("Source is not set"))
	}
	if strings.Contains(c.Source, "://") {
		u, err := url.Parse(c.Source)
		if err != nil || u.Host == "" || u.User != nil ||
			u.Scheme != "https" && (u.Scheme != "http" || !loopback.IsHost(u.Host)) {
			errs = append(errs, errors.New("Source: want a file, or https:// and a host without user and password, or http:// on loopback"))
		}
	}
	if c.Interval < keySetPause {
		errs = append(errs, fmt.Errorf("Interval is %v, must be at least %v", c.Interval, keySetPause))
	}
	return errors.Join(errs...)
}

// KeySet is the public keys with which somebody else signs client tokens: a JWK Set (RFC 7517), read again at intervals and
// when a token names a key that is not there. A set that can't be read leaves the last one in force. A nil KeySet has no
// keys.
type KeySet struct {
	// Static after OpenKeySet.
	config  KeySetConfig
	client  *http.Client
	metrics keySetMetrics
	cancel  context.CancelFunc
	closing <-chan struct{}
	loop    sync.WaitGroup

	keys atomic.Pointer[[]publicKey]

	wake chan struct{} // one refresh is asked for
	text []byte        // that keys was made of; owned by the loop

	mu      sync.Mutex
	tried   time.Time     // when the last refresh began
	current bool          // the last refresh read the set
	under   chan struct{} // closed at the end of the refresh that is asked for or under way; nil: none
}

// OpenKeySet reads a set for the first time, and then keeps it fresh until Close. When it can't be read or has no key that can
// be used, that is the error: a hub without keys would turn every client away.
func OpenKeySet(ctx context.Context, c KeySetConfig) (*KeySet, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("key set config: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		// A connection a refresh: nothing is kept for the next one, minutes away.
		c.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	}
	s := &KeySet{
		config: c,
		client: &http.Client{
			Transport: c.Transport,
			CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				return fmt.Errorf("redirected to %s://%s: name the URL of the set itself", r.URL.Scheme, r.URL.Host)
			},
		},
		metrics: newKeySetMetrics(c.Metrics),
		wake:    make(chan struct{}, 1),
		tried:   time.Now(),
	}
	if err := s.refresh(ctx); err != nil {
		return nil, fmt.Errorf("set of public keys: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.closing = cancel, running.Done()
	s.loop.Go(func() { s.run(running) })
	return s, nil
}

// Close ends the refreshing.
func (s *KeySet) Close() {
	s.cancel()
	s.loop.Wait()
}

// candidates are the keys of an algorithm that a token may be signed with, which names one or none. Keys without a name
// may be any.
func (s *KeySet) candidates(algorithm, id string) []jwt.VerificationKey {
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

// renew has the set read again, if that was not done a moment ago, and waits for it. It reports whether there may be other
// keys than before. Many may call it at once and wait for the same.
func (s *KeySet) renew(ctx context.Context) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	if s.under == nil {
		if time.Since(s.tried) < keySetPause {
			s.mu.Unlock()
			return false
		}
		s.under = make(chan struct{})
		s.wake <- struct{}{} // it has room: one is asked for at a time
	}
	under := s.under
	s.mu.Unlock()
	select {
	case <-under: // after keySetTimeout at the latest
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// Refresh reads the set now, however long ago it was last read, and waits for it. It reports whether the set could be read.
func (s *KeySet) Refresh(ctx context.Context) bool {
	for {
		s.mu.Lock()
		under, mine := s.under, s.under == nil
		if mine {
			under = make(chan struct{})
			s.under = under
			s.wake <- struct{}{} // it has room: one is asked for at a time
		}
		s.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
			return false
		case <-s.closing:
			return false
		}
		if mine { // another's may have read before the caller came
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.current
		}
	}
}

// run refreshes at each interval, and when somebody asks.
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
		s.begin()
		next := s.config.Interval
		err := s.refresh(ctx)
		if err != nil && ctx.Err() == nil {
			next = keySetPause
			s.config.Logger.Error("public keys of client tokens not read, the old ones stay", slog.Any("error", err))
		}
		s.end(err == nil)
		timer.Reset(next)
	}
}

// begin lets whoever comes from now on wait for the refresh.
func (s *KeySet) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = time.Now()
	if s.under == nil {
		s.under = make(chan struct{})
	}
}

// end lets go who waited.
func (s *KeySet) end(current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = current
	close(s.under)
	s.under = nil
	select {
	case <-s.wake: // asked for at the moment in which the timer fired: it is done
	default:
	}
}

// refresh reads the set once.
func (s *KeySet) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	text, err := s.read(ctx)
	if err == nil {
		err = s.take(text)
	}
	if err != nil {
		s.metrics.failed.Inc()
		return err
	}
	s.metrics.ok.Inc()
	s.metrics.refreshed.SetToCurrentTime()
	return nil
}

// take puts a set in force, if it is another one than before.
func (s *KeySet) take(text []byte) error {
	if s.keys.Load() != nil && bytes.Equal(text, s.text) {
		return nil
	}
	keys, others, err := parseKeys(text)
	if err != nil {
		return err
	}
	s.text = text
	s.keys.Store(&keys)
	s.metrics.keys.Set(float64(len(keys)))
	s.config.Logger.Info("public keys of client tokens read", slog.Int("keys", len(keys)), slog.Any("not_used", errors.Join(others...)))
	return nil
}

func (s *KeySet) read(ctx context.Context) ([]byte, error) {
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
	if r.URL.Scheme == "http" { // this machine: neither DNS nor a proxy is asked for its names
		r.URL.Host = loopback.Address(r.URL.Host) // the Host header stays, r.Host
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.config.Source, answer.Status)
	}
	return readSet(answer.Body)
}

func readSet(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeySetBytes+1))
	if err == nil && len(b) > maxKeySetBytes {
		err = fmt.Errorf("more than %d bytes", maxKeySetBytes)
	}
	return slices.Clip(b), err
}
