package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/loopback"
	"github.com/connhub/connhub/internal/publicurl"
	"github.com/connhub/connhub/node/certificate"
)

// settings are the knobs that `serve` and `dev` share. See knob for their tags.
type settings struct {
	ListenClients string `name:"listen-clients" placeholder:"HOST:PORT" group:"Listen" help:"Address for clients. (serve :8080, dev 127.0.0.1:8080)"`
	ListenControl string `name:"listen-control" placeholder:"HOST:PORT" group:"Listen" help:"Address for backends and other hubs (gRPC). (serve :9090, dev 127.0.0.1:9090)"`
	ListenOps     string `name:"listen-ops" placeholder:"HOST:PORT" group:"Listen" help:"Address of health, metrics and profiles. (127.0.0.1:9100)"`
	PublicURL     string `name:"public-url" placeholder:"URL" group:"Listen" help:"The URL that clients see; their tokens are bound to it. (dev http:// and --listen-clients)"`
	Name          string `name:"name" sets:"Hub.Name" placeholder:"NAME" group:"Listen" help:"Name of this hub, shown to operators. (the host's name)"`

	AllowedOrigin []string `name:"allowed-origin" sets:"Edge.AllowedOrigins" sep:"," placeholder:"PATTERN" group:"Clients" help:"Origins of web pages that may connect, as example.com or https://*.example.com; repeatable. (any)"`

	CloseOnTokenExpiry bool `name:"close-on-token-expiry" sets:"Edge.EndAtExpiry" group:"Clients" help:"End a connection when the token that opened it expires (1008)."`

	TLSCertFile        string `name:"tls-cert-file" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Certificate chain (PEM) for clients."`
	TLSKeyFile         string `name:"tls-key-file" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Private key of --tls-cert-file."`
	ControlTLSCertFile string `name:"control-tls-cert-file" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Certificate chain (PEM) for backends and other hubs."`
	ControlTLSKeyFile  string `name:"control-tls-key-file" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Private key of --control-tls-cert-file."`

	clusterFlags

	MaxConnections     *int              `name:"max-connections" sets:"Hub.MaxConnections" placeholder:"N" group:"Limits" help:"Connection limit. (${field})"`
	ConnectRate        int               `name:"connect-rate" sets:"Edge.ConnectRate" placeholder:"N" group:"Limits" help:"Clients that may connect per second, and at once after a pause. Further clients are held for up to 5s, then refused. 0: no limit. (${default})"`
	OutboxMessages     int               `name:"outbox-messages" sets:"Hub.Outbox.Messages" placeholder:"N" group:"Limits" help:"Messages queued for one connection. (${default})"`
	OutboxBytes        byteSize          `name:"outbox-bytes" sets:"Hub.Outbox.Bytes" placeholder:"SIZE" group:"Limits" help:"Bytes of payload queued for one connection, at least 2MiB. (${default})"`
	HeldBytes          *byteSize         `name:"held-bytes" sets:"Hub.HeldBytes" placeholder:"SIZE" group:"Limits" help:"Bytes of all messages queued for slow and detached clients. Above it the largest connections are closed. (a quarter of the memory limit, at most ${field})"`
	NamespaceHeldBytes *byteSize         `name:"namespace-held-bytes" sets:"Hub.NamespaceHeldBytes" placeholder:"SIZE" group:"Limits" help:"The same for each namespace. (half of --held-bytes)"`
	CallBytes          *byteSize         `name:"call-bytes" sets:"Control.CallBytes" placeholder:"SIZE" group:"Limits" help:"Bytes of all calls of backends: begun requests, waiting sends, unread answers. Above it the caller with the most bytes is refused. (a sixteenth of the memory limit, at least 32MiB, at most ${field})"`
	HeapFloor          *byteSize         `name:"heap-floor" sets:"Heap.FloorBytes" placeholder:"SIZE" group:"Limits" help:"Size of Go's heap below which a busy hub collects no garbage, at least 4MiB. A GOGC in the environment comes before it. (an eighth of the memory limit, at most ${field})"`
	ResumeWindow       time.Duration     `name:"resume-window" sets:"Hub.ResumeWindow" placeholder:"DURATION" group:"Limits" help:"How long a detached connection waits for its client to resume. (${default})"`
	DetachedPerUser    int               `name:"detached-per-user" sets:"Hub.DetachedPerUser" placeholder:"N" group:"Limits" help:"Detached connections per user. (${default})"`
	DetachedPerAddress int               `name:"detached-per-address" sets:"Hub.DetachedPerAddress" placeholder:"N" group:"Limits" help:"Detached connections per address. Behind a proxy all have the address of the proxy. (${default})"`
	RequestIDs         *int              `name:"request-ids" sets:"Hub.RequestIDs" placeholder:"N" group:"Limits" help:"Request ids remembered at once, up to 800 bytes each, for 5 minutes. (a sixteenth of the memory limit, at most ${field})"`
	Overflow           string            `name:"overflow" sets:"Hub.Overflow" enum:"close,drop-oldest,drop-newest" default:"close" placeholder:"POLICY" group:"Limits" help:"When an outbox is full: close, drop-oldest or drop-newest. (${default})"`
	NamespaceOverflow  map[string]string `name:"namespace-overflow" sets:"Hub.NamespaceOverflow" mapsep:"," placeholder:"NAMESPACE=POLICY" group:"Limits" help:"The same for single namespaces; repeatable."`
	MaxMessage         byteSize          `name:"max-message" sets:"Edge.MaxMessage" placeholder:"SIZE" group:"Limits" help:"Bytes of payload in one message from a client, decoded, at most 1MiB. (${default})"`
	InboundBytes       *byteSize         `name:"inbound-bytes" sets:"Edge.InboundBytes" placeholder:"SIZE" group:"Limits" help:"Bytes of all incomplete messages of clients. (a sixteenth of the memory limit, at most ${field})"`
	MessageTimeout     time.Duration     `name:"message-timeout" sets:"Edge.MessageTimeout" placeholder:"DURATION" group:"Limits" help:"Time limit from the first byte of a client's message to its last. (${default})"`
	HandshakeTimeout   time.Duration     `name:"handshake-timeout" sets:"Edge.HandshakeTimeout" placeholder:"DURATION" group:"Limits" help:"Time limit of a client's TLS handshake, and of its request. (${default})"`
	PingInterval       time.Duration     `name:"ping-interval" sets:"Edge.PingInterval" placeholder:"DURATION" group:"Limits" help:"Silence until a client is pinged. (${default})"`
	PongTimeout        time.Duration     `name:"pong-timeout" sets:"Edge.PongTimeout" placeholder:"DURATION" group:"Limits" help:"Silence after a ping until the connection is closed. (${default})"`
	CloseTimeout       time.Duration     `name:"close-timeout" sets:"Edge.CloseTimeout" placeholder:"DURATION" group:"Limits" help:"Time limit for a client to answer a close. (${default})"`

	Compression      bool `name:"compression" sets:"Edge.Compression" group:"Other" help:"Compress messages for clients that offer it (permessage-deflate), each once for all."`
	GoroutinePerLink bool `name:"goroutine-per-link" sets:"Edge.GoroutinePerLink" group:"Other" help:"Use a goroutine for each client and not epoll for all: some KB per client."`

	LogLevel  slog.Level      `name:"log-level" default:"info" placeholder:"LEVEL" group:"Other" help:"debug, info, warn or error. (${default})"`
	LogFormat string          `name:"log-format" enum:"auto,text,json" default:"auto" placeholder:"FORMAT" group:"Other" help:"auto, text or json; auto is text on a terminal. (${default})"`
	Config    kong.ConfigFlag `name:"config" placeholder:"FILE" group:"Other" help:"YAML or JSON file with flags as keys; flags and environment come before it."`

	onlyLoopback bool // set by the command: only this machine is served
}

var overflowPolicies = map[string]overflow.Policy{
	"close":       overflow.CloseSlow,
	"drop-oldest": overflow.DropOldest,
	"drop-newest": overflow.DropNewest,
}

// planSettings adds the settings to p, without secrets and page, which the command adds. It
// collects all problems.
func (s *settings) planSettings(p *plan) error {
	p.ListenClients = loopback.Address(s.ListenClients)
	p.ListenControl = loopback.Address(s.ListenControl)
	p.ListenOps = loopback.Address(s.ListenOps)
	p.Hub.Version = build.Version()
	if s.MaxConnections != nil {
		p.WantConnections = *s.MaxConnections
	}
	p.Edge.LoopbackOnly = s.onlyLoopback
	err := s.planPublicURL(p)
	problems := []error{err}
	if p.Hub.Name == "" {
		p.Hub.Name, err = os.Hostname()
		problems = append(problems, err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.NamespaceOverflow)) {
		if _, ok := overflowPolicies[s.NamespaceOverflow[name]]; !ok {
			problems = append(problems, fmt.Errorf("--namespace-overflow %s=%s: want close, "+
				"drop-oldest or drop-newest", name, s.NamespaceOverflow[name]))
		}
	}
	problems = append(problems, s.planBudgets(p))
	p.knobs.showFields(p.configs)
	problems = append(problems, p.nameFlags("Hub", p.Hub.Validate()),
		p.nameFlags("Edge", p.Edge.Validate()),
		p.nameFlags("Control", p.configs.Control.Validate()),
		p.nameFlags("Heap", p.Heap.Validate()))
	p.ClientsTLS, err = certificate.Open("--tls", s.TLSCertFile, s.TLSKeyFile)
	problems = append(problems, err)
	p.ControlTLS, err = certificate.Open("--control-tls", s.ControlTLSCertFile, s.ControlTLSKeyFile)
	problems = append(problems, err, s.clusterFlags.planPeers(p, s.ControlTLSCertFile != ""))
	return errors.Join(problems...)
}

// planPublicURL adds the URL that clients see. The settings get its normal form too, for the log of
// the effective configuration.
func (s *settings) planPublicURL(p *plan) error {
	if s.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(s.PublicURL)
	want := publicurl.WantedScheme
	if err == nil {
		want = publicurl.Check(u)
	}
	if want != "" {
		return fmt.Errorf("--public-url %s: want %s", config.QuoteURL(s.PublicURL), want)
	}
	normalizeURL(u)
	p.PublicURL, s.PublicURL = u, u.String()
	return nil
}

// normalizeURL brings a URL into the form that browsers use in Origin and that tokens are bound to:
// a host in lower case, and no port that the scheme implies.
func normalizeURL(u *url.URL) {
	u.Host = strings.ToLower(u.Host)
	implied := map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}[u.Scheme]
	if implied != "" && u.Port() == implied {
		u.Host = strings.TrimSuffix(u.Host, ":"+implied)
	}
}

// tryDev is the hint for a person without a configuration.
const tryDev = "\nTo try things out on this machine: connhub dev"

// refuseStart returns an error that lists all problems that keep a hub from starting, followed by a
// hint. It returns nil for no problems.
func refuseStart(hint string, problems ...error) error {
	var lines []string
	for _, err := range problems {
		for _, one := range splitErrors(err) {
			lines = append(lines, "\n  - "+strings.ReplaceAll(one.Error(), "\n", "\n    "))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return terminal.UsageErrorf("the hub does not start:%s%s", strings.Join(lines, ""), hint)
}

// splitErrors takes joined errors apart.
func splitErrors(err error) []error {
	if err == nil {
		return nil
	}
	// A joined error itself, not the errors that it wraps.
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, splitErrors(one)...)
	}
	return all
}

// checkLoopback refuses a listen address that is not on loopback.
func checkLoopback(flag, address, why string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %s: want HOST:PORT", flag, address)
	}
	if !loopback.IsHost(host) {
		return fmt.Errorf("%s %s: %s", flag, address, why)
	}
	return nil
}

// effectiveConfig returns the configuration after flags, environment, file and defaults, for the
// log. It holds no secrets: flags hold only paths to them, and the password of a URL is masked.
func effectiveConfig(k *kong.Context) slog.Value {
	var attrs []slog.Attr
	for _, flag := range k.Flags() {
		if flag.Name == "help" {
			continue
		}
		attrs = append(
			attrs, slog.String(strings.ReplaceAll(flag.Name, "-", "_"), settingText(flag.Target)),
		)
	}
	return slog.GroupValue(attrs...)
}

func settingText(v reflect.Value) string {
	switch v.Interface().(type) {
	case *byteSize, *int: // these have a default of their own
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case []string:
		return strings.Join(x, ",")
	case map[string]string:
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(x)) {
			pairs = append(pairs, key+"="+x[key])
		}
		return strings.Join(pairs, ",")
	default:
		return fmt.Sprint(x)
	}
}
