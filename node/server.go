package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/events"
	"github.com/connhub/connhub/events/stream"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/internal/neterr"
	"github.com/connhub/connhub/node/certificate"
	"github.com/connhub/connhub/node/console"
	"github.com/connhub/connhub/node/logging"
	"github.com/connhub/connhub/node/ops"
)

// A publish at the edge reaches the members at every hub through control.
var _ edge.Publisher = (*control.Server)(nil)

// server is a hub with its three ports. No other file knows how they are joined.
type server struct {
	// Static after newServer.
	log     *logging.Log
	logger  *slog.Logger // the log's
	hub     *hub.Hub
	events  *events.Broker
	edge    *edge.Server
	control *control.Server
	drain   *drain
	// rebalance moves connections to hubs that have fewer; nil: there are no other hubs.
	rebalance *rebalance
	ops       *ops.Server
	keySet    *auth.KeySet // nil: no public keys
	cluster   *cluster     // nil: the only hub

	certificates []*certificate.Pair
	reloads      <-chan struct{}
	restarts     restarts // of this process before this hub

	clientsListener, controlListener, opsListener net.Listener

	pauses atomic.Bool // it does not join the cluster yet; see restarts
}

// newServer binds the ports and joins the parts. It does not serve yet.
func newServer(ctx context.Context, plan Config) (_ *server, err error) {
	log, logger := plan.Log, plan.Log.Logger
	s := &server{log: log, logger: logger, reloads: plan.Reloads, restarts: plan.restarts}
	defer func() {
		if err != nil {
			s.closeListeners()
			s.closeKeySet()
			if s.control != nil {
				_ = s.control.Shutdown(context.WithoutCancel(ctx)) // it has no callers yet
			}
		}
	}()
	if err := s.bindPorts(ctx, plan); err != nil {
		return nil, err
	}
	if plan.PublicURL == nil {
		plan.PublicURL = &url.URL{Scheme: "http", Host: s.clientsListener.Addr().String()}
		if plan.ClientsTLS != nil {
			plan.PublicURL.Scheme = "https"
		}
	}
	plan.Memory.LimitCollector()
	plan.Memory.LogBudgets(logger, plan.Budgets(), plan.Heap)
	plan.files.LogShares(logger, plan.WantConnections)
	plan.LogPlainSecrets(logger)
	metrics := ops.NewRegistry(plan.Hub.Version)
	log.RegisterMetrics(metrics)
	plan.files.RegisterMetrics(metrics)
	plan.Budgets().RegisterMetrics(metrics, plan.Memory)
	s.controlListener = &watchedListener{
		Listener: s.controlListener, port: "control",
		logger: logger,
	}
	plan.restarts.registerMetrics(metrics)
	certificates := []*certificate.Pair{plan.ClientsTLS, plan.ControlTLS}
	if plan.Cluster != nil {
		certificates = append(certificates, plan.Cluster.EtcdCertificate)
	}
	for _, c := range certificates {
		if c != nil {
			c.Logger = logger
			s.certificates = append(s.certificates, c)
		}
	}
	if plan.KeySet != nil {
		c := *plan.KeySet
		c.Logger, c.Metrics = logger, metrics
		if s.keySet, err = auth.OpenKeySet(ctx, c); err != nil {
			return nil, fmt.Errorf("--token-jwks: %w", err)
		}
	}
	if plan.Cluster != nil {
		forgotten := func() { s.hub.BeginShutdown(cause.Forgotten) }
		if s.cluster, err = openCluster(ctx, &plan, s.controlListener.Addr(), metrics,
			forgotten); err != nil {
			return nil, err
		}
	}
	if err := s.joinParts(plan, metrics); err != nil {
		if s.cluster != nil {
			s.cluster.closeParts()
		}
		return nil, err
	}
	return s, nil
}

// ErrTaken: another hub on this machine seems to have a port or a folder.
var ErrTaken = errors.New("taken")

// takenError is an error that is ErrTaken too.
type takenError struct{ error }

func (e takenError) Unwrap() error { return e.error }

func (takenError) Is(target error) bool { return target == ErrTaken }

func (s *server) bindPorts(ctx context.Context, plan Config) error {
	var problems []string
	// Package edge finds dead clients itself. The kernel's probes take four system calls for each
	// client, and a fifth when the client is a link.
	clients := net.ListenConfig{KeepAlive: -1}
	taken := false
	for _, l := range []struct {
		flag, address string
		config        net.ListenConfig
		listener      *net.Listener
	}{
		{"--listen-clients", plan.ListenClients, clients, &s.clientsListener},
		{"--listen-control", plan.ListenControl, net.ListenConfig{}, &s.controlListener},
		{"--listen-ops", plan.ListenOps, net.ListenConfig{}, &s.opsListener},
	} {
		listener, err := l.config.Listen(ctx, "tcp", l.address)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s %s: %s", l.flag, l.address,
				listenWords(err)))
			taken = taken || errors.Is(err, syscall.EADDRINUSE)
			continue
		}
		*l.listener = listener
	}
	if len(problems) == 0 {
		return nil
	}
	// a single line, because supervisors show it
	err := errors.New("can't listen: " + strings.Join(problems, "; "))
	if taken {
		return takenError{err}
	}
	return err
}

func listenWords(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is taken; is another hub running?"
	case errors.Is(err, syscall.EACCES):
		return "not allowed for this user"
	default:
		return neterr.Words(err)
	}
}

// joinParts makes hub, edge, control and operations of a plan.
func (s *server) joinParts(plan Config, registry *prometheus.Registry) error {
	var err error
	if err = s.joinEvents(&plan.Hub, registry); err != nil {
		return err
	}
	plan.Hub.Metrics = registry
	if plan.Edge.Strangers, err = lobby.NewMetrics(registry); err != nil {
		return err
	}
	if s.cluster != nil {
		plan.Hub.Interest = s.cluster.mesh
	}
	if s.hub, err = hub.New(plan.Hub); err != nil {
		return err
	}

	var peers *mesh.Mesh
	if s.cluster != nil {
		peers = s.cluster.mesh
	}
	s.drain = newDrain(plan.Drain, s.hub, peers, s.logger)
	s.drain.registerMetrics(registry)
	if peers != nil {
		s.rebalance = newRebalance(s.hub, peers, s.logger)
		s.rebalance.registerMetrics(registry)
	}
	if err = s.joinBackends(plan, registry); err != nil {
		return err
	}
	if err = s.joinClients(plan, registry); err != nil {
		return err
	}
	s.ops, err = ops.New(ops.Config{
		Hub: s.hub, Secrets: plan.OpsSecrets, Connections: plan.files.Ops, Registry: registry,
		Logger: s.logger, Strangers: plan.Edge.Strangers,
	})
	return err
}

func (s *server) joinBackends(plan Config, registry *prometheus.Registry) (err error) {
	c := control.Config{
		Hub: s.hub, Secrets: plan.Secrets, Insecure: plan.InsecureControl,
		MaxConnections: plan.files.Control, CallBytes: plan.CallBytes,
		Services:  []control.Service{stream.New(s.events, accountOf).Register},
		Drain:     s.drain,
		Room:      func() fleet.Room { return s.findRoom(plan.Hub.MaxConnections) },
		PublicURL: plan.PublicURL, Logger: s.logger, Metrics: registry,
	}
	if len(plan.TokenKeys) > 0 {
		c.Tokens = plan.TokenKeys[0]
	}
	if s.cluster != nil {
		c.Mesh, c.Rebalancer = s.cluster.mesh, s.rebalance
	}
	if plan.ControlTLS != nil {
		c.TLS = plan.ControlTLS.ListenerConfig("h2")
	}
	s.control, err = control.New(c)
	return err
}

// findRoom returns what this hub can take of the connections of hubs that leave.
func (s *server) findRoom(maxConnections int) fleet.Room {
	connects, links := s.edge.Room()
	return fleet.Room{
		Places: max(0, min(links, maxConnections-s.hub.Len())), Connects: connects,
	}
}

// joinClients comes after joinBackends, because messages that clients publish take the way of the
// backends' sends.
func (s *server) joinClients(plan Config, registry *prometheus.Registry) (err error) {
	e := plan.Edge
	e.Hub, e.Logger, e.Metrics = s.hub, s.logger, registry
	if len(plan.TokenKeys) > 0 || s.keySet != nil {
		e.Tokens = auth.NewTokens(s.keySet, plan.TokenKeys...)
	}
	e.Anonymous, e.LoopbackOnly, e.PublicURL = plan.Anonymous, plan.LoopbackOnly, plan.PublicURL
	e.Plain, e.Protocols = plain.Protocol{Publisher: s.control},
		append(webpubsub.Protocols(s.control), envelope.Protocol{})
	if plan.Page {
		if e.Page, err = console.New(s.controlListener.Addr().String()); err != nil {
			return err
		}
	}
	if plan.ClientsTLS != nil {
		s.clientsListener = edge.NewTLSListener(s.clientsListener,
			plan.ClientsTLS.ListenerConfig("http/1.1"))
	}
	if s.cluster != nil {
		e.Taker = s.cluster.mesh.Moves
	}
	if s.edge, err = edge.New(e); err != nil {
		return err
	}
	if s.cluster != nil {
		s.cluster.mesh.Moves.Enable(s.hub, mesh.Clients{
			Speaks: s.edge.ProtocolNamed, Restore: edge.RestoreClaims,
			ResumeWindow: plan.Hub.ResumeWindow,
		})
	}
	return nil
}

// joinEvents makes the Broker. The hub reports connections and events to it and to the log.
func (s *server) joinEvents(h *hub.Config, registry *prometheus.Registry) (err error) {
	c := events.DefaultConfig()
	c.Hub, c.Metrics = h.ID, registry
	if s.events, err = events.New(c); err != nil {
		return err
	}
	h.Observers = []hub.Observer{
		{Ops: []hub.OpKind{hub.OpClose}, Applied: logging.CloseLog{Logger: s.logger}.Applied},
		{Ops: events.Ops(), Applied: s.events.Applied, Emitted: s.events.Emitted},
	}
	return nil
}

// accountOf returns the account of the caller of a stream of events.
func accountOf(ctx context.Context) events.Account { return control.AccountOf(ctx) }

func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.clientsListener, s.controlListener, s.opsListener} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s *server) closeKeySet() {
	if s.keySet != nil {
		s.keySet.Close()
	}
}
