package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/node"
)

type serveCmd struct {
	TokenKeyFile      []string      `name:"token-key-file" placeholder:"FILE" group:"Secrets" help:"Key of clients' tokens: at least 32 bytes (HS256); repeatable. The first key signs, each key checks. To rotate: append the new key in every hub, then move it to the front in every hub, then remove the old key."`
	TokenJWKS         string        `name:"token-jwks" sets:"KeySet.Source" placeholder:"FILE|URL" group:"Secrets" help:"Public keys of another issuer of clients' tokens (RS256, ES256, EdDSA): a JWK Set in a file or at an https URL."`
	TokenJWKSInterval time.Duration `name:"token-jwks-interval" sets:"KeySet.Interval" placeholder:"DURATION" group:"Secrets" help:"How often the key set is read again. An unknown key is looked for at once. (${default})"`
	BackendSecretFile []string      `name:"backend-secret-file" placeholder:"FILE" group:"Secrets" help:"Secrets of backends, one per line, at least 32 characters each; repeatable."`
	PeerSecretFile    []string      `name:"peer-secret-file" placeholder:"FILE" group:"Secrets" help:"Secrets of other hubs, in the same form; repeatable. Hubs dial each other with the first secret. To rotate: append the new secret in every hub, then move it to the front in every hub, then remove the old secret."`
	OpsSecretFile     string        `name:"ops-secret-file" placeholder:"FILE" group:"Secrets" help:"Secrets for metrics and profiles, in the same form. Without it --listen-ops must be loopback."`
	InsecureDev       bool          `name:"insecure-dev" group:"Secrets" help:"Start without secrets, on loopback only: any client may be any user, and any caller may do everything."`

	DrainDelay  time.Duration `name:"drain-delay" sets:"Drain.Delay" placeholder:"DURATION" group:"Stop" help:"How long a hub that was told to stop serves on, unready, so that balancers notice; at most 1h. (${default})"`
	DrainPeriod time.Duration `name:"drain-period" sets:"Drain.Period" placeholder:"DURATION" group:"Stop" help:"How long it then takes to close its clients, spread evenly; at most 1h; 0s closes all at once. (${default})"`

	etcdFlags
	settings
}

// Defaults of the listen addresses. With --insecure-dev, and for `dev`, the host is loopback.
const (
	defaultListenClients = ":8080"
	defaultListenControl = ":9090"
	defaultListenOps     = loopbackHost + ":9100"
	loopbackHost         = "127.0.0.1"
)

// Help is shown by --help below the usage.
func (serveCmd) Help() string {
	return `Needs --token-key-file or --token-jwks, --backend-secret-file and --public-url; and
--etcd-endpoints with --peer-secret-file, or --single-hub. Keys and secrets can be made with:

    openssl rand -base64 48 > token.key

Every flag has an environment variable: CONNHUB_ and its name, as in CONNHUB_LISTEN_CLIENTS. A
variable CONNHUB_… that no flag has is refused, but for those that Kubernetes sets for a Service
named connhub.`
}

func (c *serveCmd) Run(ctx context.Context, t *terminal.Terminal, k *kong.Context) error {
	plan, err := c.planHub()
	if err != nil {
		return err
	}
	log := startLog(t, c.LogFormat, c.LogLevel)
	log.Info("effective configuration", slog.Any("config", effectiveConfig(k)))
	if c.InsecureDev {
		log.Warn("insecure: clients and callers are not authenticated, only this machine is served")
	}
	ctx, hangups := watchHangups(ctx, log.Logger)
	defer hangups.Close()
	plan.Log, plan.Reloads = log, hangups.reloads
	return runHub(ctx, plan)
}

// runHub runs a hub until ctx ends.
func runHub(ctx context.Context, plan node.Config) error {
	p, err := node.New(ctx, plan)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil //nolint:nilerr // interrupted while etcd started
	case err != nil:
		return err
	}
	return p.Run(ctx)
}

// planHub checks everything. It returns all problems in a single error.
func (c *serveCmd) planHub() (node.Config, error) {
	c.setListenDefaults()
	c.onlyLoopback = c.InsecureDev
	plan := newPlan(c)
	problems := []error{
		c.checkRequired(), c.checkCluster(), c.checkEffects(), c.checkListen(),
		c.planSettings(plan), plan.nameFlags("Drain", plan.Drain.Validate()),
	}
	plan.LoopbackOnly, plan.Anonymous = c.InsecureDev, c.InsecureDev

	problems = append(problems, c.planTokens(plan))
	var err error
	if len(c.BackendSecretFile)+len(c.PeerSecretFile) > 0 {
		plan.Secrets, err = auth.LoadSecrets(map[auth.Role][]string{
			auth.RoleBackend: c.BackendSecretFile, auth.RolePeer: c.PeerSecretFile,
		})
		problems = append(problems, err)
	}
	if plan.InsecureControl = c.openControl(); plan.InsecureControl {
		plan.Secrets = nil // secrets of peers alone would let no backend in
	}
	if c.OpsSecretFile != "" {
		plan.OpsSecrets, err = loadOpsSecrets(c.OpsSecretFile)
		problems = append(problems, err)
	}
	if len(c.givenEndpoints()) > 0 {
		problems = append(problems, c.planEtcd(plan))
		plan.Cluster.PeerSecret = c.peerSecret()
	} else {
		plan.Cluster = nil
	}
	problems = append(problems, plan.ShareFiles())
	return plan.Config, refuseStart(build.DevHint(tryDev), problems...)
}

// planTokens sets the keys that check clients' tokens.
func (c *serveCmd) planTokens(p *plan) error {
	var problems []error
	for _, path := range c.TokenKeyFile {
		key, err := auth.LoadTokenKey(path)
		problems = append(problems, err)
		p.TokenKeys = append(p.TokenKeys, key)
	}
	if c.TokenJWKS != "" {
		p.KeySet = p.configs.KeySet
		problems = append(problems, p.nameFlags("KeySet", p.KeySet.Validate()))
	}
	return errors.Join(problems...)
}

// peerSecret returns the secret with which this hub dials its peers. LoadSecrets has refused a file
// without a secret already.
func (c *serveCmd) peerSecret() string {
	for _, path := range c.PeerSecretFile {
		if secret, err := auth.FirstSecret(path); err == nil && secret != "" {
			return secret
		}
	}
	return ""
}

func (c *serveCmd) setListenDefaults() {
	host := ""
	if c.InsecureDev {
		host = loopbackHost
	}
	for _, l := range []struct {
		address  *string
		fallback string
	}{
		{&c.ListenClients, host + defaultListenClients},
		{&c.ListenControl, host + defaultListenControl},
		{&c.ListenOps, defaultListenOps},
	} {
		if *l.address == "" {
			*l.address = l.fallback
		}
	}
}

func (c *serveCmd) checkRequired() error {
	if c.InsecureDev {
		return nil
	}
	var problems []error
	require := func(missing bool, name, why string) {
		if missing {
			problems = append(problems,
				fmt.Errorf("--%s (%s) is missing: %s", name, variableOf(name), why))
		}
	}
	require(len(c.TokenKeyFile) == 0 && c.TokenJWKS == "", "token-key-file",
		"the key that signs and checks clients' tokens; or --token-jwks, the public keys of "+
			"another issuer")
	require(len(c.BackendSecretFile) == 0, "backend-secret-file",
		"the secrets with which backends call")
	require(c.PublicURL == "", "public-url",
		"the URL that clients see, to which tokens are bound")
	return errors.Join(problems...)
}

// checkCluster demands either etcd or --single-hub. With a forgotten variable, three hubs of a
// cluster would otherwise become three clusters that do not know each other.
func (c *serveCmd) checkCluster() error {
	switch clustered := len(c.givenEndpoints()) > 0; {
	case clustered && c.SingleHub:
		return errors.New("--single-hub and --etcd-endpoints contradict each other: is this hub " +
			"the only one?")
	case !clustered && !c.SingleHub:
		return errors.New("--etcd-endpoints (CONNHUB_ETCD_ENDPOINTS) is missing: where the hubs " +
			"find each other; --single-hub (CONNHUB_SINGLE_HUB) is for a hub without others")
	case clustered && len(c.PeerSecretFile) == 0 && !c.openControl():
		return errors.New("--peer-secret-file (CONNHUB_PEER_SECRET_FILE) is missing: the " +
			"secrets with which hubs of a cluster call each other")
	}
	return nil
}

// openControl reports whether any caller may do everything.
func (c *serveCmd) openControl() bool { return c.InsecureDev && len(c.BackendSecretFile) == 0 }

func (c *serveCmd) checkListen() error {
	var problems []error
	for _, l := range []struct{ flag, address string }{
		{"--listen-clients", c.ListenClients},
		{"--listen-control", c.ListenControl},
		{"--listen-ops", c.ListenOps},
	} {
		switch {
		case c.InsecureDev:
			problems = append(problems, checkLoopback(l.flag, l.address,
				"--insecure-dev listens on loopback only"))
		case l.flag == "--listen-ops" && c.OpsSecretFile == "":
			problems = append(problems, checkLoopback(l.flag, l.address,
				"without --ops-secret-file it must be a loopback address"))
		default:
			if _, _, err := net.SplitHostPort(l.address); err != nil {
				problems = append(problems, fmt.Errorf("%s %s: want HOST:PORT", l.flag, l.address))
			}
		}
	}
	return errors.Join(problems...)
}

// loadOpsSecrets reads the secrets of the operations port. Package auth has no role for operators
// and needs none: a set of its own, with nothing else in it, decides about access.
func loadOpsSecrets(path string) (*auth.Secrets, error) {
	return auth.LoadSecrets(map[auth.Role][]string{auth.RoleBackend: {path}})
}
