package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Config says whom a crowd connects to. DefaultConfig fills all but URLs and Stamp.
type Config struct {
	// URLs has one ws:// or wss:// URL for each client.
	URLs []string
	// Stamp marks the messages that are measured.
	Stamp *Stamp
	// Ordered: messages to a client must come in the order of their sequences; others are counted in Counts.Disordered.
	Ordered bool

	Concurrency      int           // handshakes at once
	HandshakeTimeout time.Duration // from the first byte of the dial to the server's answer
	CloseTimeout     time.Duration // for servers to answer the close frames of all clients
	TLS              *tls.Config   // for wss://; nil: the system's certificates
}

// DefaultConfig is a good start.
func DefaultConfig() Config {
	return Config{
		Concurrency:      64,               // below the backlog of any listener
		HandshakeTimeout: 10 * time.Second, // what browsers have patience for, and more than a hub takes under any load it bears
		CloseTimeout:     10 * time.Second, // twice what a hub gives a client
	}
}

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.URLs) > 0, "URLs is empty")
	check(c.Stamp != nil, "Stamp is not set")
	check(c.Concurrency > 0, "Concurrency is %d, want 1 or more", c.Concurrency)
	check(c.HandshakeTimeout > 0, "HandshakeTimeout is %v, want more than 0", c.HandshakeTimeout)
	check(c.CloseTimeout > 0, "CloseTimeout is %v, want more than 0", c.CloseTimeout)
	return errors.Join(errs...)
}
