package discovery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Registry needs to know. DefaultConfig fills everything but Endpoints.
type Config struct {
	// Endpoints are etcd's members, each `host:port` or http(s)://host:port, all of one kind.
	Endpoints []string
	// Prefix is where in etcd the cluster lives: several clusters can share one etcd. It begins with "/"
	// and doesn't end with one.
	Prefix string

	TLS      *tls.Config // for `host:port` and https://; nil with https://: the system's roots
	Username string      // empty: etcd asks for none, or reads it from the certificate
	Password string

	// LeaseTTL is how long a hub stays listed after it was last heard; in whole seconds, which is what etcd
	// counts in. etcd itself raises what is shorter than one and a half of its election timeouts.
	LeaseTTL time.Duration
	// DialTimeout bounds the wait for a connection to etcd, and for each answer.
	DialTimeout time.Duration

	Logger  *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

// DefaultConfig is a good start; it logs nowhere.
func DefaultConfig() Config {
	return Config{
		Prefix:      "/connhub",
		LeaseTTL:    10 * time.Second, // a hub that pauses for a few seconds stays; a dead one is gone soon
		DialTimeout: 5 * time.Second,  // etcd elects a leader within two
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// Least and most that a lease may be: etcd counts seconds, and a hub that is gone for minutes must not be
// listed.
const (
	minLeaseTTL = time.Second
	maxLeaseTTL = 5 * time.Minute
)

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(strings.HasPrefix(c.Prefix, "/") && !strings.HasSuffix(c.Prefix, "/") && printable(c.Prefix),
		"Prefix is %q, want /name without a slash at the end", c.Prefix)
	check(c.Username != "" || c.Password == "", "Password is set, and Username is not")
	check(c.Username == "" || c.Password != "", "Username is set, and Password is not")
	check(c.LeaseTTL >= minLeaseTTL && c.LeaseTTL <= maxLeaseTTL && c.LeaseTTL%time.Second == 0,
		"LeaseTTL is %v, want whole seconds from %v to %v", c.LeaseTTL, minLeaseTTL, maxLeaseTTL)
	check(c.DialTimeout >= time.Millisecond, "DialTimeout is %v, must be at least %v", c.DialTimeout, time.Millisecond)
	check(c.Logger != nil, "Logger is not set")
	return errors.Join(append(errs, c.validateEndpoints())...)
}

func (c *Config) validateEndpoints() error {
	if len(c.Endpoints) == 0 {
		return errors.New("Endpoints is empty")
	}
	var errs []error
	first, _ := splitEndpoint(c.Endpoints[0])
	for i, e := range c.Endpoints {
		switch scheme, err := splitEndpoint(e); {
		case err != nil:
			errs = append(errs, fmt.Errorf("Endpoints[%d]: %w", i, err))
		case scheme != first:
			// The client takes the first's word for whether to encrypt.
			errs = append(errs, fmt.Errorf("Endpoints[%d] is %q, unlike Endpoints[0]: want all http, all https, or all without", i, e))
		case scheme == "http" && c.TLS != nil:
			errs = append(errs, fmt.Errorf("Endpoints[%d] is %q, which would leave TLS unused", i, e))
		}
	}
	return errors.Join(errs...)
}

// splitEndpoint checks s and returns its scheme, which may be empty.
func splitEndpoint(s string) (scheme string, err error) {
	address := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.User != nil || u.RawQuery != "" {
			return "", errors.New("want host:port or http(s)://host:port, no more") // a password may be in it
		}
		scheme, address = u.Scheme, u.Host
	}
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return "", fmt.Errorf("%q is not host:port", address)
	}
	return scheme, nil
}
