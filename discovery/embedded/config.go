package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"

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
	// Logger gets etcd's lines: at Debug, and at Error if etcd can't go on. It must be set.
	Logger *slog.Logger
}

// DefaultConfig returns a Config without Dir. It listens on 127.0.0.1:2379 and logs nowhere.
func DefaultConfig() Config {
	return Config{ClientAddress: "127.0.0.1:2379", Logger: slog.New(slog.DiscardHandler)}
}

// Validate returns all problems of c, or nil.
func (c *Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("Dir is not set"))
	}
	if _, err := c.clientURL(); err != nil {
		const want = "want a loopback address with its port: there is no password"
		errs = append(errs, fmt.Errorf("ClientAddress is %q, %s", c.ClientAddress, want))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("Logger is not set"))
	}
	return errors.Join(errs...)
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
