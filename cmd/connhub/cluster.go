package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/trust"
)

// clusterFlags are the flags for the hubs of a cluster to reach each other.
type clusterFlags struct {
	AdvertiseControl string `env:"CONNHUB_ADVERTISE_CONTROL" placeholder:"HOST:PORT" group:"Cluster" help:"Address at which other hubs dial this hub. (--listen-control, with this machine's address if it names none)"`
	Zone             string `env:"CONNHUB_ZONE" placeholder:"NAME" group:"Cluster" help:"Zone of this hub, shown to operators."`
	PeerCAFile       string `name:"peer-ca-file" env:"CONNHUB_PEER_CA_FILE" placeholder:"FILE" group:"Cluster" help:"Certificates (PEM) to trust in other hubs; with --control-tls-cert-file. (the system's)"`
	PeerServerName   string `env:"CONNHUB_PEER_SERVER_NAME" placeholder:"NAME" group:"Cluster" help:"Name in the certificates of other hubs. (the dialled host)"`
	InterestHashBits int    `hidden:"" default:"${hash_bits}" env:"CONNHUB_INTEREST_HASH_BITS" placeholder:"N" group:"Cluster" help:"Bits of the hashes with which hubs announce their users and groups, the same in every hub. For tests. (${default})"`
}

// etcdFlags are the flags to reach an etcd outside the process.
type etcdFlags struct {
	EtcdEndpoints    []string `sep:"," env:"CONNHUB_ETCD_ENDPOINTS" placeholder:"HOST:PORT" group:"Cluster" help:"Members of the etcd in which hubs find each other, or their URLs; repeatable."`
	EtcdPrefix       string   `default:"${etcd_prefix}" env:"CONNHUB_ETCD_PREFIX" placeholder:"PATH" group:"Cluster" help:"Prefix of the cluster's keys in etcd: several clusters can share one etcd. (${default})"`
	EtcdCAFile       string   `name:"etcd-ca-file" env:"CONNHUB_ETCD_CA_FILE" placeholder:"FILE" group:"Cluster" help:"Use TLS with etcd, and trust these certificates (PEM)."`
	EtcdCertFile     string   `env:"CONNHUB_ETCD_CERT_FILE" placeholder:"FILE" group:"Cluster" help:"Client certificate (PEM) for etcd; read again when it changes."`
	EtcdKeyFile      string   `env:"CONNHUB_ETCD_KEY_FILE" placeholder:"FILE" group:"Cluster" help:"Private key of --etcd-cert-file."`
	EtcdUsername     string   `env:"CONNHUB_ETCD_USERNAME" placeholder:"NAME" group:"Cluster" help:"User of etcd, with --etcd-password-file."`
	EtcdPasswordFile string   `env:"CONNHUB_ETCD_PASSWORD_FILE" placeholder:"FILE" group:"Cluster" help:"Password of --etcd-username: the first line."`
	SingleHub        bool     `env:"CONNHUB_SINGLE_HUB" group:"Cluster" help:"This hub is the only hub: no etcd, no cluster."`
}

// clusterPlan is the checked configuration of a hub's place in its cluster.
type clusterPlan struct {
	registry discovery.Config
	embedded *embedded.Config // nil: etcd runs elsewhere

	advertise       string // host:port; empty: that of the listener
	zone            string
	hashBits        int
	peerTLS         *tls.Config  // to dial peers; nil: plain text
	peerSecret      string       // empty: none is sent
	etcdCertificate *certificate // nil: none

	opened    func(*cluster) // called before the hub joins; may be nil
	forgotten func()         // makes the hub refuse everything; see mesh.Config
}

// planPeers makes a clusterPlan of the flags, without etcd, which the command adds. It collects all
// problems.
func (f *clusterFlags) planPeers(controlTLS bool) (*clusterPlan, error) {
	p := &clusterPlan{
		registry: discovery.DefaultConfig(), advertise: f.AdvertiseControl,
		zone: f.Zone, hashBits: f.InterestHashBits,
	}
	problems := []error{checkAdvertised(f.AdvertiseControl)}
	if bits := mesh.DefaultConfig().HashBits; f.InterestHashBits < 1 || f.InterestHashBits > bits {
		problems = append(problems, fmt.Errorf("--interest-hash-bits is %d, want 1 to %d",
			f.InterestHashBits, bits))
	}
	switch {
	case controlTLS:
		var err error
		p.peerTLS, err = trust.File("--peer-ca-file", f.PeerCAFile)
		problems = append(problems, err)
		if err == nil {
			p.peerTLS.ServerName = f.PeerServerName
		}
	case f.PeerCAFile != "" || f.PeerServerName != "":
		problems = append(problems,
			errors.New("--peer-ca-file and --peer-server-name need --control-tls-cert-file: "+
				"without it hubs talk plain text"))
	}
	return p, errors.Join(problems...)
}

// planEtcd adds etcd to p. It collects all problems.
func (f *etcdFlags) planEtcd(p *clusterPlan) error {
	c := &p.registry
	c.Endpoints, c.Prefix, c.Username = f.givenEndpoints(), f.EtcdPrefix, f.EtcdUsername
	var problems []error
	if f.EtcdPasswordFile != "" {
		var err error
		if c.Password, err = firstLine("--etcd-password-file", f.EtcdPasswordFile); err != nil {
			problems = append(problems, err)
			c.Username = "" // a single problem is enough
		}
	}
	var err error
	p.etcdCertificate, err = openCertificate("--etcd", f.EtcdCertFile, f.EtcdKeyFile)
	problems = append(problems, err)
	if f.EtcdCAFile != "" || p.etcdCertificate != nil {
		c.TLS, err = trust.File("--etcd-ca-file", f.EtcdCAFile)
		problems = append(problems, err)
	}
	if c.TLS != nil && p.etcdCertificate != nil {
		c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.etcdCertificate.currentPair(nil)
		}
	}
	problems = append(problems, inEtcdFlags(c.Validate().Err()))
	return errors.Join(problems...)
}

// givenEndpoints returns the endpoints that are not blank: an empty variable counts as a missing
// variable.
func (f *etcdFlags) givenEndpoints() []string {
	var endpoints []string
	for _, e := range f.EtcdEndpoints {
		if e = strings.TrimSpace(e); e != "" {
			endpoints = append(endpoints, e)
		}
	}
	return endpoints
}

// etcdFields are the flags for the fields that discovery's Validate names.
var etcdFields = strings.NewReplacer(
	"Endpoints", "--etcd-endpoints", "Prefix is", "--etcd-prefix is",
	"Password is not set", "--etcd-password-file is not set",
	"Username is not set", "--etcd-username is not set", "ClientAddress", "--etcd-listen",
)

// inEtcdFlags replaces names of fields by names of flags in the problems of a discovery config.
func inEtcdFlags(err error) error {
	var problems []error
	for _, one := range splitErrors(err) {
		problems = append(problems, errors.New(etcdFields.Replace(one.Error())))
	}
	return errors.Join(problems...)
}

// firstLine returns the first line of a file, which must not be empty.
func firstLine(flag, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return "", fmt.Errorf("%s: the first line of %s is empty", flag, path)
	}
	return string(line), nil
}

// checkAdvertised refuses an address that can't be dialled. An empty address is valid.
func checkAdvertised(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || notNumber != nil || number == 0 {
		return fmt.Errorf("--advertise-control %s: want HOST:PORT", address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return fmt.Errorf("--advertise-control %s: want an address that other hubs can dial",
			address)
	}
	return nil
}

// findAdvertised returns the address where peers dial this hub if no flag gives it: the address of
// the control port. A listener on all addresses is reached at the machine's first address that is
// not loopback. A container has only that address.
func findAdvertised(listen string, bound net.Addr) (string, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", err
	}
	ip, err := netip.ParseAddr(host)
	if host != "" && (err != nil || !ip.IsUnspecified()) {
		return net.JoinHostPort(host, port), nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range own {
		// 0.0.0.0 takes IPv4 only. IsGlobalUnicast excludes loopback and link-local addresses.
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() &&
			(!ip.Is4() || n.IP.To4() != nil) {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return "",
		errors.New("this machine has only loopback addresses: say with --advertise-control " +
			"where other hubs dial this one")
}

// cluster is the membership of a hub in its cluster.
type cluster struct {
	// Static after open.
	plan     *clusterPlan
	address  string         // where peers dial this hub
	etcd     *embedded.Etcd // nil: it runs elsewhere
	registry *discovery.Registry
	mesh     *mesh.Mesh
}

// logAttributes returns the cluster's attributes for a log; none for nil.
func (c *cluster) logAttributes() []any {
	if c == nil {
		return nil
	}
	return []any{
		slog.String("etcd", strings.Join(c.plan.registry.Endpoints, ",")),
		slog.String("etcd_prefix", c.plan.registry.Prefix),
		slog.String("advertise_control", c.address),
	}
}

// openCluster joins the parts, and starts etcd if it is inside this process. It does not contact
// the peers yet.
func openCluster(
	ctx context.Context, plan *serverPlan, control net.Addr, logger *slog.Logger,
	metrics prometheus.Registerer,
) (_ *cluster, err error) {
	p := plan.cluster
	c := &cluster{plan: p, address: p.advertise}
	defer func() {
		if err != nil {
			c.closeParts()
		}
	}()
	if c.address == "" {
		if c.address, err = findAdvertised(plan.listenControl, control); err != nil {
			return nil, err
		}
	}
	if p.embedded != nil {
		if c.etcd, err = startEtcd(ctx, *p.embedded, logger); err != nil {
			return nil, err
		}
		p.registry.Endpoints = []string{c.etcd.Endpoint()}
	}
	p.registry.Logger, p.registry.Metrics = logger, metrics
	if c.registry, err = discovery.New(p.registry); err != nil {
		return nil, err
	}
	m := mesh.DefaultConfig()
	m.Self, m.Name, m.Zone, m.Version = plan.hub.ID, plan.hub.Name, p.zone, plan.hub.Version
	m.Address, m.Registry = c.address, c.registry
	m.TLS, m.Secret, m.HashBits = p.peerTLS, p.peerSecret, p.hashBits
	m.Logger, m.Metrics, m.Forgotten = logger, metrics, p.forgotten
	if c.mesh, err = mesh.New(m); err != nil {
		return nil, err
	}
	if p.opened != nil {
		p.opened(c)
	}
	return c, nil
}

// takePart takes part in the cluster until leaveCluster, or until that is no longer possible.
func (c *cluster) takePart(ctx context.Context) error {
	err := c.mesh.Run(ctx)
	where := fmt.Sprintf("%s in etcd at %s", c.plan.registry.Prefix,
		strings.Join(c.plan.registry.Endpoints, ","))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, discovery.ErrDeclaredDead):
		return fmt.Errorf("%w: the other hubs could not reach it", err)
	case errors.Is(err, mesh.ErrForgotten):
		return err
	case errors.Is(err, discovery.ErrForeignCluster):
		return fmt.Errorf("%s is not the cluster that this hub can join: %w", where, err)
	case errors.Is(err, discovery.ErrRefused):
		return fmt.Errorf("can't join %s: see --etcd-username, --etcd-password-file and "+
			"--etcd-cert-file: %w", where, err)
	default:
		return fmt.Errorf("can't join %s: %w", where, err)
	}
}

// waitsFor names the reason why the hub has not joined the cluster yet.
func (c *cluster) waitsFor() string {
	if c.registry.ClusterID() == "" || c.registry.StaleFor() > 0 {
		return "joining the cluster: waiting for etcd"
	}
	return "joining the cluster: waiting for the other hubs"
}

// leaveCluster tells the peers that the hub leaves, and removes its key from etcd, as far as that
// is done before ctx ends.
func (c *cluster) leaveCluster(ctx context.Context) error { return c.mesh.Close(ctx) }

// closeParts ends the parts that are left after leaveCluster.
func (c *cluster) closeParts() {
	if c.registry != nil {
		_ = c.registry.Close() // its only error is that it was closed before
	}
	if c.etcd != nil {
		c.etcd.Close()
	}
}
