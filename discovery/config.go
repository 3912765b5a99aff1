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

// Config configures a Registry. Endpoints is required. DefaultConfig sets the rest.
type Config struct {
	// Endpoints are the members of etcd, each host:port or http(s)://host:port. All must have the
	// same scheme, or none.
	Endpoints []string
	// Prefix is the path of the cluster's keys in etcd; clusters with different prefixes can share
	// an etcd. It begins with "/" and does not end with "/".
	Prefix string

	// TLS is used for host:port and https://. Nil: no TLS for host:port, the root certificates of
	// the system for https://.
	TLS *tls.Config
	// Username is the user of etcd. Empty: etcd requires none, or takes it from the client
	// certificate.
	Username string
	// Password is required if Username is set.
	Password string

	// LeaseTTL is how long a hub stays listed after its last renewal: whole seconds, 1 s to 5
	// minutes. etcd raises a value below 1.5 times its election timeout.
	LeaseTTL time.Duration
	// DialTimeout limits the wait for a connection to etcd and for each answer.
	DialTimeout time.Duration

	// Logger is required.
	Logger *slog.Logger
	// Metrics registers the instruments. Nil: they are not registered.
	Metrics prometheus.Registerer
}

// DefaultConfig returns a config without Endpoints. Its logger discards all lines.
func DefaultConfig() Config {
	return Config{
		Prefix:      "/connhub",
		LeaseTTL:    10 * time.Second, // outlasts a pause of some seconds; a dead hub goes soon
		DialTimeout: 5 * time.Second,  // etcd elects a leader within two
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// Bounds of LeaseTTL. etcd counts whole seconds, and a hub that has been gone for minutes must not
// be listed.
const (
	minLeaseTTL = time.Second
	maxLeaseTTL = 5 * time.Minute
)

// Validate returns all problems of c as a joined error, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(strings.HasPrefix(c.Prefix, "/") && !strings.HasSuffix(c.Prefix, "/") &&
		isPrintable(c.Prefix),
		"Prefix is %q, want /name without a slash at the end", c.Prefix)
	check(c.Username != "" || c.Password == "", "Password is set, and Username is not")
	check(c.Username == "" || c.Password != "", "Username is set, and Password is not")
	check(c.LeaseTTL >= minLeaseTTL && c.LeaseTTL <= maxLeaseTTL && c.LeaseTTL%time.Second == 0,
		"LeaseTTL is %v, want whole seconds from %v to %v", c.LeaseTTL, minLeaseTTL, maxLeaseTTL)
	check(c.DialTimeout >= time.Millisecond, "DialTimeout is %v, must be at least %v",
		c.DialTimeout, time.Millisecond)
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
			// etcd's client decides by the first endpoint whether to encrypt.
			errs = append(errs, fmt.Errorf("Endpoints[%d] is %q, unlike Endpoints[0]: "+
				"want all http, all https, or all without", i, e))
		case scheme == "http" && c.TLS != nil:
			errs = append(errs,
				fmt.Errorf("Endpoints[%d] is %q, which would leave TLS unused", i, e))
		}
	}
	return errors.Join(errs...)
}

// splitEndpoint checks an endpoint and returns its scheme, which may be empty.
func splitEndpoint(s string) (scheme string, err error) {
	address := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" ||
			u.User != nil || u.RawQuery != "" {
			// The error does not quote the endpoint, which may have a password.
			return "", errors.New("want host:port or http(s)://host:port, no more")
		}
		scheme, address = u.Scheme, u.Host
	}
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return "", fmt.Errorf("%q is not host:port", address)
	}
	return scheme, nil
}
