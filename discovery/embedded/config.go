package embedded

import (
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strconv"

	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/loopback"
)

var (
	// ErrInUse: another process has started etcd in the folder.
	ErrInUse = errors.New("in use by another process")
	// ErrNotIncluded: this binary was built with -tags no_embedded_etcd.
	ErrNotIncluded = errors.New("this binary was built without etcd's server")
)

// Config configures an Etcd. DefaultConfig fills everything but Dir.
type Config struct {
	// Dir is the folder of the data. Start makes it if it is missing. Two processes can't share it.
	Dir string
	// ClientAddress is a host:port on the loopback interface; port 0 is any free port.
	ClientAddress string
	// NoSync leaves it to the system when data reaches the disk: a power cut may spoil Dir, and a
	// busy disk delays nothing. For tests.
	NoSync bool
	// Logger gets etcd's lines: at Debug, and at Error if etcd can't go on. Nil: nothing
	// is logged.
	Logger *slog.Logger
}

// DefaultConfig returns a Config without Dir. It listens on 127.0.0.1:2379.
func DefaultConfig() Config { return Config{ClientAddress: "127.0.0.1:2379"} }

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Dir != "", "Dir", "is not set")
	_, err := c.clientURL()
	p.Require(err == nil, "ClientAddress",
		"is %q, want a loopback address with its port: there is no password", c.ClientAddress)
	return p
}

// clientURL returns where etcd listens for clients. Of names etcd takes localhost alone.
func (c *Config) clientURL() (url.URL, error) {
	_, port, err := net.SplitHostPort(c.ClientAddress)
	if err != nil {
		return url.URL{}, err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return url.URL{}, err
	}
	if !loopback.IsHost(c.ClientAddress) {
		return url.URL{}, errNotLoopback
	}
	return url.URL{Scheme: "http", Host: loopback.Address(c.ClientAddress)}, nil
}

var errNotLoopback = errors.New("not a loopback address")
