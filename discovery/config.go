package discovery

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
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

	// Logger gets the lines of the Registry. Nil: nothing is logged.
	Logger *slog.Logger
	// Metrics registers the instruments. Nil: they are not registered.
	Metrics prometheus.Registerer
}

// DefaultConfig returns a config without Endpoints.
func DefaultConfig() Config {
	return Config{
		Prefix:      "/connhub",
		LeaseTTL:    10 * time.Second, // outlasts a pause of some seconds; a dead hub goes soon
		DialTimeout: 5 * time.Second,  // etcd elects a leader within two
	}
}

// Bounds of LeaseTTL. etcd counts whole seconds, and a hub that has been gone for minutes must not
// be listed.
const (
	minLeaseTTL = time.Second
	maxLeaseTTL = 5 * time.Minute
)

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	p := c.validateEndpoints()
	p.Require(strings.HasPrefix(c.Prefix, "/") && !strings.HasSuffix(c.Prefix, "/") &&
		isPrintable(c.Prefix),
		"Prefix", "is %q, want /name without a slash at the end", c.Prefix)
	p.Require(c.Username != "" || c.Password == "",
		"Username", "is not set: the password needs a user")
	p.Require(c.Username == "" || c.Password != "",
		"Password", "is not set: the user needs a password")
	p.Require(
		c.LeaseTTL >= minLeaseTTL && c.LeaseTTL <= maxLeaseTTL && c.LeaseTTL%time.Second == 0,
		"LeaseTTL", "is %v, want whole seconds from %v to %v", c.LeaseTTL, minLeaseTTL, maxLeaseTTL)
	p.Require(c.DialTimeout >= time.Millisecond,
		"DialTimeout", "is %v, must be at least %v", c.DialTimeout, time.Millisecond)
	return p
}

func (c *Config) validateEndpoints() (p config.Problems) {
	if len(c.Endpoints) == 0 {
		p.Add("Endpoints", "is empty")
		return p
	}
	first, _ := splitEndpoint(c.Endpoints[0])
	for i, e := range c.Endpoints {
		field := fmt.Sprintf("Endpoints[%d]", i)
		switch scheme, err := splitEndpoint(e); {
		case err != nil:
			p.Add(field, "%s", err)
		case scheme != first:
			// etcd's client decides by the first endpoint whether to encrypt.
			p.Add(field, "is %q, unlike the first endpoint: "+
				"want all http, all https, or all without", e)
		case scheme == "http" && c.TLS != nil:
			p.Add(field, "is %q, which would leave TLS unused", e)
		}
	}
	return p
}

// splitEndpoint checks an endpoint and returns its scheme, which may be empty.
func splitEndpoint(s string) (scheme string, err error) {
	address := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" ||
			u.User != nil || u.RawQuery != "" {
			return "", fmt.Errorf("%s is not host:port or http(s)://host:port, and no more",
				config.QuoteURL(s))
		}
		scheme, address = u.Scheme, u.Host
	}
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return "", fmt.Errorf("%s is not host:port", config.QuoteURL(s))
	}
	return scheme, nil
}
