package load

import (
	"crypto/tls"
	"time"

	"github.com/connhub/connhub/internal/config"
)

// Config configures a crowd. DefaultConfig fills all fields but URLs and Stamp.
type Config struct {
	// URLs has a ws:// or wss:// URL for each client.
	URLs []string
	// Stamp marks the messages that are measured.
	Stamp *Stamp
	// Ordered requires that the sequences of a client's messages rise. Counts.Disordered counts the
	// messages that break this rule.
	Ordered bool

	// Concurrency is the number of handshakes at the same time.
	Concurrency int
	// HandshakeTimeout bounds the way from the start of the dial to the server's answer.
	HandshakeTimeout time.Duration
	// CloseTimeout bounds the time in which servers answer the close frames of all clients.
	CloseTimeout time.Duration
	// TLS is the configuration for wss:// URLs. Nil trusts the system's certificates.
	TLS *tls.Config
}

// DefaultConfig returns a configuration without URLs and Stamp.
func DefaultConfig() Config {
	return Config{
		// Below the backlog of any listener.
		Concurrency: 64,
		// Browsers wait about as long, and a hub that bears its load answers sooner.
		HandshakeTimeout: 10 * time.Second,
		// Twice the time that a hub gives a client.
		CloseTimeout: 10 * time.Second,
	}
}

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(len(c.URLs) > 0, "URLs", "is empty")
	p.Require(c.Stamp != nil, "Stamp", "is not set")
	p.Require(c.Concurrency > 0, "Concurrency", "is %d, want 1 or more", c.Concurrency)
	p.Require(c.HandshakeTimeout > 0,
		"HandshakeTimeout", "is %v, want more than 0", c.HandshakeTimeout)
	p.Require(c.CloseTimeout > 0, "CloseTimeout", "is %v, want more than 0", c.CloseTimeout)
	return p
}
