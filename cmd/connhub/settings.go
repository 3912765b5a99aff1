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

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/loopback"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/certificate"
)

// settings are the flags that `serve` and `dev` share. Each flag has an environment variable,
// CONNHUB_ and its name, and a key of the same name in the file of --config.
type settings struct {
	ListenClients string   `env:"CONNHUB_LISTEN_CLIENTS" placeholder:"HOST:PORT" group:"Listen" help:"Address for clients. (serve :8080, dev 127.0.0.1:8080)"`
	ListenControl string   `env:"CONNHUB_LISTEN_CONTROL" placeholder:"HOST:PORT" group:"Listen" help:"Address for backends and other hubs (gRPC). (serve :9090, dev 127.0.0.1:9090)"`
	ListenOps     string   `env:"CONNHUB_LISTEN_OPS" placeholder:"HOST:PORT" group:"Listen" help:"Address of health, metrics and profiles. (127.0.0.1:9100)"`
	PublicURL     *url.URL `name:"public-url" env:"CONNHUB_PUBLIC_URL" placeholder:"URL" group:"Listen" help:"The URL that clients see; their tokens are bound to it. (dev http:// and --listen-clients)"`
	Name          string   `env:"CONNHUB_NAME" placeholder:"NAME" group:"Listen" help:"Name of this hub, shown to operators. (the host's name)"`

	AllowedOrigin []string `sep:"," env:"CONNHUB_ALLOWED_ORIGIN" placeholder:"PATTERN" group:"Clients" help:"Origins of web pages that may connect, as example.com or https://*.example.com; repeatable. (any)"`

	CloseOnTokenExpiry bool `env:"CONNHUB_CLOSE_ON_TOKEN_EXPIRY" group:"Clients" help:"End a connection when the token that opened it expires (1008)."`

	TLSCertFile        string `name:"tls-cert-file" env:"CONNHUB_TLS_CERT_FILE" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Certificate chain (PEM) for clients."`
	TLSKeyFile         string `name:"tls-key-file" env:"CONNHUB_TLS_KEY_FILE" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Private key of --tls-cert-file."`
	ControlTLSCertFile string `name:"control-tls-cert-file" env:"CONNHUB_CONTROL_TLS_CERT_FILE" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Certificate chain (PEM) for backends and other hubs."`
	ControlTLSKeyFile  string `name:"control-tls-key-file" env:"CONNHUB_CONTROL_TLS_KEY_FILE" placeholder:"FILE" group:"TLS (files are read again when they change)" help:"Private key of --control-tls-cert-file."`

	clusterFlags

	MaxConnections     *int              `env:"CONNHUB_MAX_CONNECTIONS" placeholder:"N" group:"Limits" help:"Connection limit. (${max_connections})"`
	OutboxMessages     int               `default:"${outbox_messages}" env:"CONNHUB_OUTBOX_MESSAGES" placeholder:"N" group:"Limits" help:"Messages queued for one connection. (${default})"`
	OutboxBytes        byteSize          `default:"${outbox_bytes}" env:"CONNHUB_OUTBOX_BYTES" placeholder:"SIZE" group:"Limits" help:"Bytes of payload queued for one connection, at least 2MiB. (${default})"`
	HeldBytes          *byteSize         `env:"CONNHUB_HELD_BYTES" placeholder:"SIZE" group:"Limits" help:"Bytes of all messages queued for slow and detached clients. Above it the largest connections are closed. (a quarter of the memory limit, at most ${held_bytes})"`
	NamespaceHeldBytes *byteSize         `env:"CONNHUB_NAMESPACE_HELD_BYTES" placeholder:"SIZE" group:"Limits" help:"The same for each namespace. (half of --held-bytes)"`
	CallBytes          *byteSize         `env:"CONNHUB_CALL_BYTES" placeholder:"SIZE" group:"Limits" help:"Bytes of all calls of backends: begun requests, waiting sends, unread answers. Above it the caller with the most bytes is refused. (a sixteenth of the memory limit, at least ${min_call_bytes}, at most ${call_bytes})"`
	ResumeWindow       time.Duration     `default:"${resume_window}" env:"CONNHUB_RESUME_WINDOW" placeholder:"DURATION" group:"Limits" help:"How long a detached connection waits for its client to resume. (${default})"`
	DetachedPerUser    int               `default:"${detached_per_user}" env:"CONNHUB_DETACHED_PER_USER" placeholder:"N" group:"Limits" help:"Detached connections per user. (${default})"`
	DetachedPerAddress int               `default:"${detached_per_address}" env:"CONNHUB_DETACHED_PER_ADDRESS" placeholder:"N" group:"Limits" help:"Detached connections per address. Behind a proxy all have the address of the proxy. (${default})"`
	RequestIDs         *int              `name:"request-ids" env:"CONNHUB_REQUEST_IDS" placeholder:"N" group:"Limits" help:"Request ids remembered at once, up to 800 bytes each, for 5 minutes. (a sixteenth of the memory limit, at most ${request_ids})"`
	Overflow           string            `enum:"close,drop-oldest,drop-newest" default:"close" env:"CONNHUB_OVERFLOW" placeholder:"POLICY" group:"Limits" help:"When an outbox is full: close, drop-oldest or drop-newest. (${default})"`
	NamespaceOverflow  map[string]string `mapsep:"," env:"CONNHUB_NAMESPACE_OVERFLOW" placeholder:"NAMESPACE=POLICY" group:"Limits" help:"The same for single namespaces; repeatable."`
	MaxMessage         byteSize          `default:"${max_message}" env:"CONNHUB_MAX_MESSAGE" placeholder:"SIZE" group:"Limits" help:"Bytes of payload in one message from a client, decoded, at most 1MiB. (${default})"`
	InboundBytes       *byteSize         `env:"CONNHUB_INBOUND_BYTES" placeholder:"SIZE" group:"Limits" help:"Bytes of all incomplete messages of clients. (a sixteenth of the memory limit, at most ${inbound_bytes})"`
	MessageTimeout     time.Duration     `default:"${message_timeout}" env:"CONNHUB_MESSAGE_TIMEOUT" placeholder:"DURATION" group:"Limits" help:"Time limit from the first byte of a client's message to its last. (${default})"`
	HandshakeTimeout   time.Duration     `default:"${handshake_timeout}" env:"CONNHUB_HANDSHAKE_TIMEOUT" placeholder:"DURATION" group:"Limits" help:"Time limit of a client's TLS handshake, and of its request. (${default})"`
	PingInterval       time.Duration     `default:"${ping_interval}" env:"CONNHUB_PING_INTERVAL" placeholder:"DURATION" group:"Limits" help:"Silence until a client is pinged. (${default})"`
	PongTimeout        time.Duration     `default:"${pong_timeout}" env:"CONNHUB_PONG_TIMEOUT" placeholder:"DURATION" group:"Limits" help:"Silence after a ping until the connection is closed. (${default})"`
	CloseTimeout       time.Duration     `default:"${close_timeout}" env:"CONNHUB_CLOSE_TIMEOUT" placeholder:"DURATION" group:"Limits" help:"Time limit for a client to answer a close. (${default})"`

	Compression      bool `env:"CONNHUB_COMPRESSION" group:"Other" help:"Compress messages for clients that offer it (permessage-deflate), each once for all."`
	GoroutinePerLink bool `env:"CONNHUB_GOROUTINE_PER_LINK" group:"Other" help:"Use a goroutine for each client and not epoll for all: some KB per client."`

	LogLevel  slog.Level      `default:"info" env:"CONNHUB_LOG_LEVEL" placeholder:"LEVEL" group:"Other" help:"debug, info, warn or error. (${default})"`
	LogFormat string          `enum:"auto,text,json" default:"auto" env:"CONNHUB_LOG_FORMAT" placeholder:"FORMAT" group:"Other" help:"auto, text or json; auto is text on a terminal. (${default})"`
	Config    kong.ConfigFlag `env:"CONNHUB_CONFIG" placeholder:"FILE" group:"Other" help:"YAML or JSON file with flags as keys; flags and environment come before it."`

	onlyLoopback bool // set by the command: only this machine is served
}

// fillDefaults puts the defaults of other packages into the tags above. kong.Vars would do so too,
// but kong searches each variable's text again for each flag: 2,500 searches at each start.
func fillDefaults(k *kong.Kong) error {
	h, e := hub.DefaultConfig(), edge.DefaultConfig()
	defaults := strings.NewReplacer(
		"${token_jwks_interval}", auth.DefaultKeySetConfig().Interval.String(),
		"${etcd_listen}", embedded.DefaultConfig().ClientAddress,
		"${etcd_prefix}", discovery.DefaultConfig().Prefix,
		"${hash_bits}", fmt.Sprint(mesh.DefaultConfig().HashBits),
		"${max_connections}", fmt.Sprint(h.MaxConnections),
		"${outbox_messages}", fmt.Sprint(h.Outbox.Messages),
		"${outbox_bytes}", byteSize(h.Outbox.Bytes).String(),
		"${held_bytes}", byteSize(h.HeldBytes).String(),
		"${call_bytes}", byteSize(control.DefaultConfig().CallBytes).String(),
		"${min_call_bytes}", byteSize(control.MinCallBytes).String(),
		"${resume_window}", h.ResumeWindow.String(),
		"${detached_per_user}", fmt.Sprint(h.DetachedPerUser),
		"${detached_per_address}", fmt.Sprint(h.DetachedPerAddress),
		"${request_ids}", fmt.Sprint(h.RequestIDs),
		"${max_message}", byteSize(e.MaxMessage).String(),
		"${inbound_bytes}", byteSize(e.InboundBytes).String(),
		"${message_timeout}", e.MessageTimeout.String(),
		"${handshake_timeout}", e.HandshakeTimeout.String(),
		"${ping_interval}", e.PingInterval.String(),
		"${pong_timeout}", e.PongTimeout.String(),
		"${close_timeout}", e.CloseTimeout.String(),
	)
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			flag.Default, flag.Help = defaults.Replace(flag.Default), defaults.Replace(flag.Help)
		}
		return next(nil)
	})
}

var overflowPolicies = map[string]overflow.Policy{
	"close":       overflow.CloseSlow,
	"drop-oldest": overflow.DropOldest,
	"drop-newest": overflow.DropNewest,
}

// planSettings makes a Config of the settings, without secrets and page, which the command
// adds. It collects all problems.
func (s *settings) planSettings() (node.Config, error) {
	p := node.DefaultConfig()
	p.ListenClients = loopback.Address(s.ListenClients)
	p.ListenControl = loopback.Address(s.ListenControl)
	p.ListenOps = loopback.Address(s.ListenOps)
	p.PublicURL = s.PublicURL
	normalizeURL(p.PublicURL)
	p.Hub.Name, p.Hub.Version = s.Name, build.Version()
	if s.MaxConnections != nil {
		p.Hub.MaxConnections, p.WantConnections = *s.MaxConnections, *s.MaxConnections
	}
	s.MaxConnections = new(p.Hub.MaxConnections) // for the log of the effective configuration
	p.Hub.Outbox = hub.Bounds{Messages: s.OutboxMessages, Bytes: int64(s.OutboxBytes)}
	p.Hub.ResumeWindow = s.ResumeWindow
	p.Hub.DetachedPerUser, p.Hub.DetachedPerAddress = s.DetachedPerUser, s.DetachedPerAddress
	p.Hub.Overflow = overflowPolicies[s.Overflow]
	p.Edge.LoopbackOnly = s.onlyLoopback
	p.Edge.AllowedOrigins, p.Edge.EndAtExpiry = s.AllowedOrigin, s.CloseOnTokenExpiry
	p.Edge.MaxMessage = int64(s.MaxMessage)
	p.Edge.MessageTimeout, p.Edge.HandshakeTimeout, p.Edge.CloseTimeout = s.MessageTimeout,
		s.HandshakeTimeout, s.CloseTimeout
	p.Edge.PingInterval, p.Edge.PongTimeout = s.PingInterval, s.PongTimeout
	p.Edge.Compression, p.Edge.GoroutinePerLink = s.Compression, s.GoroutinePerLink

	var problems []error
	if p.Hub.Name == "" {
		name, err := os.Hostname()
		problems = append(problems, err)
		p.Hub.Name = name
	}
	p.Hub.NamespaceOverflow = make(map[string]overflow.Policy, len(s.NamespaceOverflow))
	for _, name := range slices.Sorted(maps.Keys(s.NamespaceOverflow)) {
		policy, ok := overflowPolicies[s.NamespaceOverflow[name]]
		if !ok {
			problems = append(problems, fmt.Errorf("--namespace-overflow %s=%s: want close, "+
				"drop-oldest or drop-newest", name, s.NamespaceOverflow[name]))
			continue
		}
		p.Hub.NamespaceOverflow[name] = policy
	}
	problems = append(problems, s.planBudgets(&p))
	problems = append(problems, inFlags(p.Hub.Validate().Err()),
		inFlags(validateEdge(p.Edge)), inFlags(validateCalls(p.CallBytes)))
	problems = append(problems, checkPublicURL(s.PublicURL))
	var err error
	p.ClientsTLS, err = certificate.Open("--tls", s.TLSCertFile, s.TLSKeyFile)
	problems = append(problems, err)
	p.ControlTLS, err = certificate.Open("--control-tls", s.ControlTLSCertFile, s.ControlTLSKeyFile)
	problems = append(problems, err)
	p.Cluster, err = s.clusterFlags.planPeers(s.ControlTLSCertFile != "")
	problems = append(problems, err)
	return p, errors.Join(problems...)
}

// validateEdge checks the limits of c. It fills in placeholders for the fields that the server sets
// later.
func validateEdge(c edge.Config) error {
	c.Hub, c.Plain, c.Anonymous = &hub.Hub{}, plain.Protocol{}, true
	return c.Validate().Err()
}

// validateCalls checks the bytes for calls, with placeholders as in validateEdge.
func validateCalls(bytes int64) error {
	c := control.Config{Hub: &hub.Hub{}, Insecure: true, CallBytes: bytes}
	return c.Validate().Err()
}

// fieldFlags are the flags for the fields that the Validate methods of packages name.
var fieldFlags = strings.NewReplacer(
	"MaxConnections", "--max-connections", "Outbox.Messages", "--outbox-messages",
	"Outbox.Bytes", "--outbox-bytes", "NamespaceOverflow", "--namespace-overflow",
	"AllowedOrigins", "--allowed-origin", "MaxMessage", "--max-message",
	"RequestIDs", "--request-ids", "InboundBytes", "--inbound-bytes",
	"MessageTimeout", "--message-timeout", "PingInterval", "--ping-interval",
	"PongTimeout", "--pong-timeout",
	"CallBytes", "--call-bytes",
	"NamespaceHeldBytes", "--namespace-held-bytes", "HeldBytes", "--held-bytes",
	"ResumeWindow", "--resume-window",
	"DetachedPerUser", "--detached-per-user", "DetachedPerAddress", "--detached-per-address",
	"CloseTimeout", "--close-timeout", "HandshakeTimeout", "--handshake-timeout",
)

// inFlags replaces names of fields by names of flags in the problems of a Validate method.
func inFlags(err error) error {
	var problems []error
	for _, one := range splitErrors(err) {
		problems = append(problems, errors.New(fieldFlags.Replace(one.Error())))
	}
	return errors.Join(problems...)
}

// normalizeURL brings a URL into the form that browsers use in Origin and that tokens are bound to:
// a host in lower case, and no port that the scheme implies.
func normalizeURL(u *url.URL) {
	if u == nil {
		return
	}
	u.Host = strings.ToLower(u.Host)
	implied := map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}[u.Scheme]
	if implied != "" && u.Port() == implied {
		u.Host = strings.TrimSuffix(u.Host, ":"+implied)
	}
}

func checkPublicURL(u *url.URL) error {
	switch {
	case u == nil:
		return nil
	case u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme):
		return fmt.Errorf("--public-url %s: want http(s):// or ws(s):// and a host", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("--public-url %s: want no user, query or fragment", u.Redacted())
	}
	return nil
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
	case *url.URL:
		if x == nil {
			return ""
		}
		return x.Redacted()
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
