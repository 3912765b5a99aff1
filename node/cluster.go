package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/node/certificate"
)

// ClusterConfig is the checked configuration of a hub's place in its cluster.
type ClusterConfig struct {
	Registry discovery.Config // how etcd is reached
	Embedded *embedded.Config // the etcd inside this process; nil: etcd runs elsewhere

	Advertise       string            // host:port at which peers dial; empty: that of the listener
	Zone            string            // shown to operators; may be empty
	HashBits        int               // of mesh.Config
	PeerTLS         *tls.Config       // to dial peers; nil: plain text
	PeerSecret      string            // sent to peers; empty: none is sent
	EtcdCertificate *certificate.Pair // shown to etcd; nil: none

	// Opened is called before the hub joins. From then on waitsFor names the cause of the wait.
	// Opened may be nil.
	Opened func(waitsFor func() string)
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
	plan     *ClusterConfig
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
		slog.String("etcd", strings.Join(c.plan.Registry.Endpoints, ",")),
		slog.String("etcd_prefix", c.plan.Registry.Prefix),
		slog.String("advertise_control", c.address),
	}
}

// openCluster joins the parts, and starts etcd if it is inside this process. It does not contact
// the peers yet. forgotten makes the hub refuse everything; see mesh.Config.
func openCluster(
	ctx context.Context, plan *Config, control net.Addr, metrics prometheus.Registerer,
	forgotten func(),
) (_ *cluster, err error) {
	p, logger := plan.Cluster, plan.Log.Logger
	c := &cluster{plan: p, address: p.Advertise}
	defer func() {
		if err != nil {
			c.closeParts()
		}
	}()
	if c.address == "" {
		if c.address, err = findAdvertised(plan.ListenControl, control); err != nil {
			return nil, err
		}
	}
	if p.Embedded != nil {
		if c.etcd, err = startEtcd(ctx, *p.Embedded, logger); err != nil {
			return nil, err
		}
		p.Registry.Endpoints = []string{c.etcd.Endpoint()}
	}
	p.Registry.Logger, p.Registry.Metrics = logger, metrics
	if c.registry, err = discovery.New(p.Registry); err != nil {
		return nil, err
	}
	m := mesh.DefaultConfig()
	m.Self, m.Name, m.Zone, m.Version = plan.Hub.ID, plan.Hub.Name, p.Zone, plan.Hub.Version
	m.Address, m.Registry = c.address, c.registry
	m.TLS, m.Secret, m.HashBits = p.PeerTLS, p.PeerSecret, p.HashBits
	m.Logger, m.Metrics, m.Forgotten = logger, metrics, forgotten
	if c.mesh, err = mesh.New(m); err != nil {
		return nil, err
	}
	if p.Opened != nil {
		p.Opened(c.waitsFor)
	}
	return c, nil
}

// takePart takes part in the cluster until leaveCluster, or until that is no longer possible.
func (c *cluster) takePart(ctx context.Context) error {
	err := c.mesh.Run(ctx)
	where := fmt.Sprintf("%s in etcd at %s", c.plan.Registry.Prefix,
		strings.Join(c.plan.Registry.Endpoints, ","))
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
