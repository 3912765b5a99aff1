package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/lobby"
)

// Config is what a Server needs to know. DefaultConfig fills the limits; Hub, Plain, and Tokens with
// PublicURL or Anonymous must be set besides.
type Config struct {
	Hub *hub.Hub

	// Tokens verifies client tokens. nil: there are none, which needs Anonymous.
	Tokens *auth.Tokens
	// EndAtExpiry ends a connection when the token that opened it expires (1008). Otherwise a token is good for
	// opening connections only, and they live on.
	EndAtExpiry bool
	// Anonymous lets clients in without a token, as the user `?user=` in the groups `?group=`
	// (repeated). For development. A token is honoured all the same where Tokens is set.
	Anonymous bool
	// PublicURL is the URL that clients see, http(s) or ws(s). Tokens are bound to it. A path in it is
	// a proxy's: it must be stripped before requests get here.
	PublicURL *url.URL

	// AllowedOrigins are patterns (path.Match, without regard to case) for the Origin header that browsers
	// send: `host[:port]`, or `scheme://host[:port]` when the pattern has "://". A pattern without port
	// matches only origins without port; `localhost:*` matches any port. A pattern that no browser's Origin can match is refused. PublicURL's own origin and
	// requests without Origin, which no browser sends, always pass. Empty: any origin passes, and only
	// tokens protect clients' connections.
	AllowedOrigins []string
	// LoopbackOnly refuses requests whose Host or Origin is not a loopback name: with Anonymous a web site
	// that a developer visits could otherwise talk to the hub on the developer's machine.
	LoopbackOnly bool

	Protocols []Protocol   // subprotocols; of several that a client offers it gets the first
	Plain     Protocol     // for clients that offer none that is known
	Page      http.Handler // answers at "/" and below, apart from the clients' endpoints; may be nil

	// Compression has messages compressed, in both directions, for clients that offer it (RFC 7692): each one by itself,
	// and what goes to many once for all of them. It saves bytes on the network, and costs the compression of each message that is
	// larger than 255 bytes, and 4 KiB of memory for each client that has sent a compressed one.
	Compression bool

	// MaxMessage is the most bytes of payload in one message of a client, its fragments together, uncompressed and decoded: base64 and
	// escapes of JSON do not count. At most hub.MaxPayload.
	MaxMessage int64
	// InboundBytes bounds all messages together that clients have begun and not ended, apart from the first
	// 4 KiB of each. When it is full, the largest message of the largest user of the largest namespace ends its
	// link (1013).
	InboundBytes   int64
	MessageTimeout time.Duration // from the first byte of a client's message to its last
	PingInterval   time.Duration // of silence until a client is pinged; counted in whole seconds
	PongTimeout    time.Duration // of silence after the ping until the link is closed; in whole seconds
	CloseTimeout   time.Duration // for a client to answer a close frame, and to read what comes before it

	// HandshakeTimeout is how long the hub waits for a client in a TLS handshake, for its request, and for it to take the answer
	// to an upgrade, each. The time in which a handshake waits in line for a core does not count.
	HandshakeTimeout time.Duration

	// MaxLinks caps the sockets of clients at once: those of links, and of upgrades that the hub is answering. Each is a file of
	// the process. Above it a client is refused (503).
	MaxLinks int
	// MaxStrangers caps the connections that are no link: those whose TLS handshake or request has not come, and those whose
	// answer is being written. Each is a file of the process. Package lobby says what happens above it.
	MaxStrangers int

	// GoroutinePerLink has a goroutine wait for each link, also where a poller could wait for all (on Linux). It costs some KB
	// of memory a link.
	GoroutinePerLink bool

	Logger  *slog.Logger
	Metrics prometheus.Registerer // may be nil
	// Strangers are the instruments that the lobbies of all ports share; nil: strangers are not counted.
	Strangers *lobby.Metrics
}

// DefaultConfig is a good start; it logs nowhere.
func DefaultConfig() Config {
	return Config{
		MaxMessage:       1 << 20,          // as much as a backend may send
		InboundBytes:     64 << 20,         // 64 of the largest at once
		MessageTimeout:   30 * time.Second, // 1 MiB at 300 kbit/s
		PingInterval:     25 * time.Second, // below the 30 s after which the most impatient proxies cut
		PongTimeout:      20 * time.Second, // a phone that changes networks is back by then
		CloseTimeout:     5 * time.Second,
		HandshakeTimeout: 5 * time.Second,
		MaxLinks:         1_000_000, // as many connections as a hub holds
		MaxStrangers:     2048,      // a burst of clients, at 10 KB each
		Logger:           slog.New(slog.DiscardHandler),
	}
}

// tick is the heartbeat's, and so the least that its times may be.
const tick = time.Second

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Hub != nil, "Hub is not set")
	check(c.Plain != nil, "Plain is not set")
	check(c.Logger != nil, "Logger is not set")
	check(c.Tokens != nil || c.Anonymous, "Tokens is not set, and Anonymous is off: nobody could connect")
	check(c.PublicURL != nil || c.Tokens == nil, "PublicURL is not set: tokens are bound to it")
	if u := c.PublicURL; u != nil {
		check(u.Host != "" && slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme),
			"PublicURL is %q, want http(s):// or ws(s):// and a host", u.Redacted())
	}
	for _, p := range c.AllowedOrigins {
		if problem := checkOriginPattern(p, c.LoopbackOnly); problem != "" {
			errs = append(errs, fmt.Errorf("AllowedOrigins: %q %s", p, problem))
		}
	}
	errs = append(errs, c.validateProtocols(), c.validateLimits())
	return errors.Join(errs...)
}

func (c *Config) validateProtocols() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := make(map[string]bool)
	for i, p := range c.Protocols {
		switch {
		case p == nil:
			wrong("Protocols[%d] is not set", i)
		case !isToken(p.Name()):
			wrong("Protocols[%d]: %q is not a subprotocol name (RFC 6455 §4.1)", i, p.Name())
		case seen[p.Name()]:
			wrong("Protocols[%d]: %q is there twice", i, p.Name())
		default:
			seen[p.Name()] = true
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateLimits() error {
	var errs []error
	if c.MaxMessage <= 0 {
		errs = append(errs, fmt.Errorf("MaxMessage is %d, must be above 0", c.MaxMessage))
	}
	if c.MaxMessage > hub.MaxPayload {
		errs = append(errs, fmt.Errorf("MaxMessage is %d, must be at most %d, the most bytes of a payload", c.MaxMessage, hub.MaxPayload))
	}
	if c.InboundBytes < c.MaxMessage {
		errs = append(errs, fmt.Errorf("InboundBytes is %d, must be at least MaxMessage, %d", c.InboundBytes, c.MaxMessage))
	}
	if c.MaxLinks < 1 {
		errs = append(errs, fmt.Errorf("MaxLinks is %d, must be above 0", c.MaxLinks))
	}
	if c.MaxStrangers < 1 {
		errs = append(errs, fmt.Errorf("MaxStrangers is %d, must be above 0", c.MaxStrangers))
	}
	for _, t := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"MessageTimeout", c.MessageTimeout, time.Millisecond},
		{"PingInterval", c.PingInterval, tick},
		{"PongTimeout", c.PongTimeout, tick},
		{"CloseTimeout", c.CloseTimeout, time.Millisecond},
		{"HandshakeTimeout", c.HandshakeTimeout, time.Millisecond},
	} {
		if t.value < t.least {
			errs = append(errs, fmt.Errorf("%s is %v, must be at least %v", t.name, t.value, t.least))
		}
	}
	return errors.Join(errs...)
}
