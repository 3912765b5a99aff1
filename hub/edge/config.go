package edge

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/admit"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/edge/opening"
	"github.com/connhub/connhub/hub/edge/origin"
	"github.com/connhub/connhub/hub/edge/wheel"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/publicurl"
)

// Config holds the parts and limits of a Server. DefaultConfig fills the limits. The caller must
// set Hub, Plain, and Tokens with PublicURL or Anonymous.
type Config struct {
	// Hub holds the connections of the clients. Required.
	Hub *hub.Hub

	// Taker fetches connections from other hubs. nil: there are no other hubs, and a client whose
	// connection is not here can't have it back.
	Taker Taker

	// Tokens verifies client tokens. nil: there are none, which needs Anonymous.
	Tokens *auth.Tokens
	// EndAtExpiry ends a connection when the token that opened it expires (1008). Otherwise a token
	// is checked only when a connection opens, and the connection outlives it.
	EndAtExpiry bool
	// Anonymous admits clients without a token, as the user `?user=` in the groups `?group=`
	// (repeated). It is meant for development. A token is verified all the same if Tokens is set.
	Anonymous bool
	// PublicURL is the URL that clients see, http(s) or ws(s). Tokens are bound to it. A path in it
	// is a proxy's: the proxy must strip it from requests.
	PublicURL *url.URL

	// AllowedOrigins are patterns (path.Match, case-insensitive) for the Origin header of browsers:
	// `host[:port]`, or `scheme://host[:port]` when the pattern has "://". A pattern without port
	// matches only origins without port; `localhost:*` matches any port. A pattern that no
	// browser's Origin can match is refused. PublicURL's own origin always passes. So do requests
	// without Origin, which no browser sends. Empty: any origin passes, and only tokens protect
	// clients' connections.
	AllowedOrigins []string
	// LoopbackOnly refuses requests whose Host or Origin is not a loopback name. Otherwise, with
	// Anonymous, a web site that a developer visits could talk to the hub on the developer's
	// machine.
	LoopbackOnly bool

	Protocols []Protocol // subprotocols; the first in a client's offer is used
	Plain     Protocol   // for clients that offer no known subprotocol
	// answers at "/" and below, except at the clients' endpoints; may be nil
	Page http.Handler

	// Compression compresses messages in both directions, for clients that offer it (RFC 7692).
	// Each message is compressed by itself, once for all its receivers. It saves bytes on the
	// network. It costs the compression of each message larger than 255 bytes.
	Compression bool

	// MaxMessage is the most bytes of payload in a message of a client. It counts all fragments
	// together, inflated and decoded: base64 and escapes of JSON do not count. At most
	// hub.MaxPayload.
	MaxMessage int64
	// InboundBytes bounds, in bytes, all messages together that clients have begun and not ended.
	// The first 4 KiB of each do not count. When it is full, the largest message of the largest
	// user of the largest namespace ends its link (1013).
	InboundBytes   int64
	MessageTimeout time.Duration // from the first byte of a client's message to its last
	PingInterval   time.Duration // of silence until a client is pinged; counted in whole seconds
	// PongTimeout is the silence after the ping until the link is closed; in whole seconds.
	PongTimeout  time.Duration
	CloseTimeout time.Duration // for a client to read the last messages and answer a close frame

	// HandshakeTimeout is how long the hub waits for a client in each of three steps: the TLS
	// handshake, the request, and taking the answer to an upgrade. The time in which a handshake
	// waits in line for a core does not count.
	HandshakeTimeout time.Duration

	// ConnectRate is the number of clients that may connect per second, resumes included, and the
	// number that may connect at once after a pause. Clients above the rate are held for
	// admit.MaxHold at most, in a queue, and then refused (503). 0: no limit.
	ConnectRate int

	// MaxLinks caps the sockets of links and of upgrades that the hub is answering, together. Each
	// is a file of the process. Above it a client is refused (503).
	MaxLinks int
	// MaxStrangers caps the connections that are no link: their TLS handshake or request has not
	// come, or their answer is being written. Each is a file of the process. Package lobby
	// documents the rules above it.
	MaxStrangers int

	// GoroutinePerLink makes a goroutine wait for each link, even where a poller could wait for all
	// (on Linux). It costs some KB of memory a link.
	GoroutinePerLink bool

	// Logger gets faults of the hub at Error, and faults of clients at Debug. nil: nothing
	// is logged.
	Logger *slog.Logger
	// Metrics registers the instruments. nil: they are not registered.
	Metrics prometheus.Registerer
	// Strangers are the instruments that the lobbies of all ports share. nil: strangers are not
	// counted.
	Strangers *lobby.Metrics
}

// DefaultConfig returns the default limits.
func DefaultConfig() Config {
	return Config{
		MaxMessage:     1 << 20,          // as much as a backend may send
		InboundBytes:   64 << 20,         // 64 messages of the largest size
		MessageTimeout: 30 * time.Second, // 1 MiB at 300 kbit/s
		// Below the 30 s after which the most impatient proxies cut.
		PingInterval:     25 * time.Second,
		PongTimeout:      20 * time.Second, // a phone that changes networks is back by then
		CloseTimeout:     5 * time.Second,
		HandshakeTimeout: 5 * time.Second,
		ConnectRate:      10_000,    // at 50 µs each at most: half a core, as a small pod has
		MaxLinks:         1_000_000, // as many connections as a hub holds
		MaxStrangers:     lobby.DefaultConfig().Most,
	}
}

// tick is the heartbeat's period, and so the least value of its times.
const tick = wheel.Tick

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Hub != nil, "Hub", "is not set")
	p.Require(c.Plain != nil, "Plain", "is not set")
	p.Require(isComparable(c.Plain), "Plain", "%T is not comparable", c.Plain)
	p.Require(c.Tokens != nil || c.Anonymous,
		"Tokens", "is not set, and Anonymous is off: no client could connect")
	p.Require(c.PublicURL != nil || c.Tokens == nil,
		"PublicURL", "is not set: tokens are bound to it")
	if u := c.PublicURL; u != nil {
		want := publicurl.Check(u)
		p.Require(want == "", "PublicURL", "is %s, want %s", config.QuoteURL(u.String()), want)
	}
	for _, pattern := range c.AllowedOrigins {
		if problem := origin.CheckPattern(pattern, c.LoopbackOnly); problem != "" {
			p.Add("AllowedOrigins", "%q %s", pattern, problem)
		}
	}
	return slices.Concat(p, c.validateProtocols(), c.validateLimits())
}

func (c *Config) validateProtocols() (p config.Problems) {
	seen := make(map[string]bool)
	for i, protocol := range c.Protocols {
		field := fmt.Sprintf("Protocols[%d]", i)
		switch {
		case protocol == nil:
			p.Add(field, "is not set")
		case !isComparable(protocol):
			p.Add(field, "%T is not comparable", protocol)
		case !opening.IsToken(protocol.Name()):
			p.Add(field, "%q is not a subprotocol name (RFC 6455 §4.1)", protocol.Name())
		case seen[protocol.Name()]:
			p.Add(field, "%q is there twice", protocol.Name())
		default:
			seen[protocol.Name()] = true
		}
	}
	return p
}

// isComparable reports whether a protocol can be a key, as hub.Protocol demands. nil can.
func isComparable(p Protocol) bool { return p == nil || reflect.ValueOf(p).Comparable() }

func (c *Config) validateLimits() (p config.Problems) {
	p.Require(c.MaxMessage > 0, "MaxMessage", "is %d, must be above 0", c.MaxMessage)
	p.Require(c.MaxMessage <= hub.MaxPayload, "MaxMessage",
		"is %d, must be at most %d, the most bytes of a payload", c.MaxMessage, hub.MaxPayload)
	p.Require(c.InboundBytes >= c.MaxMessage, "InboundBytes",
		"is %d, must be at least %d, the most bytes of a message", c.InboundBytes, c.MaxMessage)
	p.Require(c.ConnectRate >= 0 && c.ConnectRate <= admit.MaxRate, "ConnectRate",
		"is %d, must be from 0 to %d", c.ConnectRate, admit.MaxRate)
	p.RequirePositive("MaxLinks", c.MaxLinks)
	p.RequirePositive("MaxStrangers", c.MaxStrangers)
	for _, t := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"MessageTimeout", c.MessageTimeout, time.Millisecond},
		{"PingInterval", c.PingInterval, tick},
		{"PongTimeout", c.PongTimeout, tick},
		{"CloseTimeout", c.CloseTimeout, time.Millisecond},
		{"HandshakeTimeout", c.HandshakeTimeout, time.Millisecond},
	} {
		p.Require(t.value >= t.least, t.field, "is %v, must be at least %v", t.value, t.least)
	}
	return p
}
