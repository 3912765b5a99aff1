package main

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
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control"
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
)

// Time limits of the steps of a shutdown. Together they are 9 s. The last second is for an etcd
// inside this process, so a hub is down after 10 s in any case.
const (
	// callGrace is for calls in flight.
	callGrace = 3 * time.Second
	// closeGrace is for clients to read their queues and to answer the close. Then they are cut.
	closeGrace = 3 * time.Second
	// meshGrace is for the farewell to peers (a second at most), for etcd, and for the last events.
	meshGrace = 1500 * time.Millisecond
	// lastGrace is for the answers of calls that waited for those clients.
	lastGrace = time.Second
	// opsGrace is for a scrape.
	opsGrace = 500 * time.Millisecond
)

// A publish at the edge reaches the members at every hub through control.
var _ edge.Publisher = (*control.Server)(nil)

// serverPlan is the checked configuration of a hub process.
type serverPlan struct {
	hub  hub.Config
	edge edge.Config

	maxConnectionsGiven bool  // the operator gave --max-connections
	callBytes           int64 // of control.Config

	listenClients, listenControl, listenOps string
	publicURL                               *url.URL // nil: the clients' listen address

	tokenKeys       []*auth.TokenKey   // of clients; the first signs
	keySet          *auth.KeySetConfig // nil: no public keys; without any key, anonymous
	secrets         *auth.Secrets      // nil: none, then insecureControl
	opsSecrets      *auth.Secrets      // nil: none, then the port is on loopback
	anonymous       bool
	insecureControl bool
	loopbackOnly    bool
	page            bool // the demo page at /

	clientsTLS, controlTLS *certificate // nil: no TLS

	cluster *clusterPlan // nil: the only hub

	reloads <-chan struct{} // each makes the hub read its files again; nil: none

	files    files
	memory   memory
	restarts restarts // of this process so far
}

// addresses are the listen addresses of a hub, host:port each.
type addresses struct {
	clients, control, ops string
	etcd                  string // inside this process; empty: there is none
}

// server is a hub with its three ports. No other file knows how they are joined.
type server struct {
	// Static after newServer.
	log     *hubLog
	logger  *slog.Logger // the log's
	hub     *hub.Hub
	events  *events.Broker
	edge    *edge.Server
	control *control.Server
	ops     *opsServer
	keySet  *auth.KeySet // nil: no public keys
	cluster *cluster     // nil: the only hub

	certificates []*certificate
	reloads      <-chan struct{}
	restarts     restarts // of this process before this hub

	clientsListener, controlListener, opsListener net.Listener

	pauses atomic.Bool // it does not join the cluster yet; see restarts
}

// runServer runs a hub until ctx ends, and takes it down. A forgotten hub is followed by another
// hub in its place, which joins the cluster at once or after a pause (restarts). runServer calls
// ready for the first hub only. ready may be nil.
func runServer(ctx context.Context, plan serverPlan, log *hubLog, ready func(addresses)) error {
	for {
		s, err := newServer(ctx, plan, log)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil //nolint:nilerr // interrupted while etcd started
		case err != nil:
			return err
		}
		began := time.Now()
		err = s.serveUntilDone(ctx, ready)
		switch {
		case !startsAnew(err):
			return err
		case ctx.Err() != nil:
			return nil // the process ends anyway
		}
		plan, ready = s.planSuccessor(plan, err, time.Since(began)), nil
		log.Warn("starting anew as another hub", slog.String("was", string(s.hub.ID())),
			slog.String("hub", string(plan.hub.ID)),
			slog.Duration("pause", plan.restarts.nextPause()), slog.Any("cause", err))
	}
}

// newServer binds the ports and joins the parts. It does not serve yet.
func newServer(ctx context.Context, plan serverPlan, log *hubLog) (_ *server, err error) {
	logger := log.Logger
	s := &server{log: log, logger: logger, reloads: plan.reloads, restarts: plan.restarts}
	defer func() {
		if err != nil {
			s.closeListeners()
			s.closeKeySet()
			if s.control != nil {
				_ = s.control.Shutdown(context.WithoutCancel(ctx)) // it has no callers yet
			}
		}
	}()
	if err := s.bindPorts(plan); err != nil {
		return nil, err
	}
	if plan.publicURL == nil {
		plan.publicURL = &url.URL{Scheme: "http", Host: s.clientsListener.Addr().String()}
		if plan.clientsTLS != nil {
			plan.publicURL.Scheme = "https"
		}
	}
	plan.memory.limitCollector()
	plan.logMemory(logger)
	plan.logFiles(logger)
	plan.logPlainSecrets(logger)
	metrics := newRegistry()
	log.registerMetrics(metrics)
	plan.files.registerMetrics(metrics)
	plan.plannedBudgets().registerMetrics(metrics, plan.memory)
	s.controlListener = &watchedListener{
		Listener: s.controlListener, port: "control",
		logger: logger,
	}
	plan.restarts.registerMetrics(metrics)
	certificates := []*certificate{plan.clientsTLS, plan.controlTLS}
	if plan.cluster != nil {
		certificates = append(certificates, plan.cluster.etcdCertificate)
	}
	for _, c := range certificates {
		if c != nil {
			c.logger = logger
			s.certificates = append(s.certificates, c)
		}
	}
	if plan.keySet != nil {
		c := *plan.keySet
		c.Logger, c.Metrics = logger, metrics
		if s.keySet, err = auth.OpenKeySet(ctx, c); err != nil {
			return nil, fmt.Errorf("--token-jwks: %w", err)
		}
	}
	if plan.cluster != nil {
		plan.cluster.forgotten = func() { s.hub.BeginShutdown(cause.Forgotten) }
		if s.cluster, err = openCluster(ctx, &plan, s.controlListener.Addr(), logger,
			metrics); err != nil {
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

// takenError means that another hub on this machine seems to have a port or a folder.
type takenError struct{ error }

func (e takenError) Unwrap() error { return e.error }

func (s *server) bindPorts(plan serverPlan) error {
	var problems []string
	taken := false
	for _, l := range []struct {
		flag, address string
		listener      *net.Listener
	}{
		{"--listen-clients", plan.listenClients, &s.clientsListener},
		{"--listen-control", plan.listenControl, &s.controlListener},
		{"--listen-ops", plan.listenOps, &s.opsListener},
	} {
		listener, err := net.Listen("tcp", l.address) //nolint:noctx // binding a port does not wait
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
func (s *server) joinParts(plan serverPlan, registry *prometheus.Registry) error {
	var err error
	if err = s.joinEvents(&plan.hub, registry); err != nil {
		return err
	}
	plan.hub.Metrics = registry
	if plan.edge.Strangers, err = lobby.NewMetrics(registry); err != nil {
		return err
	}
	if s.cluster != nil {
		plan.hub.Interest = s.cluster.mesh
	}
	if s.hub, err = hub.New(plan.hub); err != nil {
		return err
	}

	if err = s.joinBackends(plan, registry); err != nil {
		return err
	}
	if err = s.joinClients(plan, registry); err != nil {
		return err
	}
	s.ops, err = newOpsServer(opsConfig{
		hub: s.hub, secrets: plan.opsSecrets, connections: plan.files.ops, registry: registry,
		logger: s.logger, strangers: plan.edge.Strangers,
	})
	return err
}

func (s *server) joinBackends(plan serverPlan, registry *prometheus.Registry) (err error) {
	c := control.Config{
		Hub: s.hub, Secrets: plan.secrets, Insecure: plan.insecureControl,
		MaxConnections: plan.files.control, CallBytes: plan.callBytes,
		Services:  []control.Service{stream.New(s.events, accountOf).Register},
		PublicURL: plan.publicURL, Logger: s.logger, Metrics: registry,
	}
	if len(plan.tokenKeys) > 0 {
		c.Tokens = plan.tokenKeys[0]
	}
	if s.cluster != nil {
		c.Mesh = s.cluster.mesh
	}
	if plan.controlTLS != nil {
		c.TLS = plan.controlTLS.listenerConfig("h2")
	}
	s.control, err = control.New(c)
	return err
}

// joinClients comes after joinBackends, because messages that clients publish take the way of the
// backends' sends.
func (s *server) joinClients(plan serverPlan, registry *prometheus.Registry) (err error) {
	e := plan.edge
	e.Hub, e.Logger, e.Metrics = s.hub, s.logger, registry
	if len(plan.tokenKeys) > 0 || s.keySet != nil {
		e.Tokens = auth.NewTokens(s.keySet, plan.tokenKeys...)
	}
	e.Anonymous, e.LoopbackOnly, e.PublicURL = plan.anonymous, plan.loopbackOnly, plan.publicURL
	e.Plain, e.Protocols = plain.Protocol{Publisher: s.control},
		append(webpubsub.Protocols(s.control), envelope.Protocol{})
	if plan.page {
		if e.Page, err = newPage(s.controlListener.Addr().String()); err != nil {
			return err
		}
	}
	if plan.clientsTLS != nil {
		s.clientsListener = edge.NewTLSListener(s.clientsListener,
			plan.clientsTLS.listenerConfig("http/1.1"))
	}
	s.edge, err = edge.New(e)
	return err
}

// joinEvents makes the Broker. The hub reports connections and events to it and to the log.
func (s *server) joinEvents(h *hub.Config, registry *prometheus.Registry) (err error) {
	c := events.DefaultConfig()
	c.Hub, c.Metrics = h.ID, registry
	if s.events, err = events.New(c); err != nil {
		return err
	}
	h.Observers = []hub.Observer{
		{Ops: []hub.OpKind{hub.OpClose}, Applied: closeLog{s.logger}.Applied},
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

func (s *server) boundAddresses() addresses {
	a := addresses{
		clients: s.clientsListener.Addr().String(),
		control: s.controlListener.Addr().String(),
		ops:     s.opsListener.Addr().String(),
	}
	if s.cluster != nil && s.cluster.etcd != nil {
		a.etcd = s.cluster.etcd.Endpoint()
	}
	return a
}

// serveUntilDone serves until ctx ends, or until a port or the cluster fails. Then it shuts down.
func (s *server) serveUntilDone(ctx context.Context, ready func(addresses)) error {
	ended, waiting := make(chan error, 5), 0
	start := func(part func() error) {
		waiting++
		go func() { ended <- part() }()
	}
	start(func() error { return s.ops.serveRequests(s.opsListener) })
	// Peers call before this hub is ready, backends do not.
	start(func() error { return s.control.Serve(s.controlListener) })
	joined := alone
	if s.cluster != nil {
		joined = s.cluster.mesh.Ready()
		s.ops.setUnready(s.waitsFor)
		start(func() error { return s.joinCluster(ctx) })
		if s.cluster.etcd != nil {
			start(s.cluster.etcd.Wait)
		}
	}
	stopReloading := s.startReloading(ctx)
	defer stopReloading()
	a := s.boundAddresses()
	s.logger.Info("starting", append(a.logAttributes(), s.cluster.logAttributes()...)...)

	var failed error
	select {
	case <-joined:
		start(func() error { return s.edge.Serve(s.clientsListener) })
		// A bound port takes connections before Serve accepts them, so this is true now.
		s.ops.setReady("")
		s.logger.Info("ready", append(a.logAttributes(),
			slog.String("hub", string(s.hub.ID())), slog.String("name", s.hub.Name()),
			slog.String("version", s.hub.Version()))...)
		if ready != nil {
			ready(a)
		}
		select {
		case <-ctx.Done():
		case failed = <-ended:
			waiting--
		}
	case <-ctx.Done():
	case failed = <-ended:
		waiting--
	}
	grace := callGrace
	if startsAnew(failed) {
		s.hub.BeginShutdown(cause.Forgotten)
		grace = 0 // results of these calls are worthless
	}
	s.takeDown(context.WithoutCancel(ctx), grace)
	for range waiting {
		failed = errors.Join(failed, <-ended)
	}
	return failed
}

// alone is closed already: a hub without a cluster is ready at once.
var alone = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (a addresses) logAttributes() []any {
	return []any{
		slog.String("clients", a.clients), slog.String("control", a.control),
		slog.String("ops", a.ops),
	}
}

// takeDown takes the hub down in order; see doc.go. Calls in flight have the time finish to end
// before clients are closed. It cuts everything that is not down in time.
func (s *server) takeDown(ctx context.Context, finish time.Duration) {
	began := time.Now()
	s.ops.setReady(unreadyStopping)
	s.logger.Info("shutting down", slog.Int("connections", s.hub.Len()))
	if s.cluster != nil {
		s.cluster.mesh.GoAway()
	}
	clients, cancelClients := context.WithTimeout(ctx, callGrace+closeGrace)
	defer cancelClients()
	calls, cancelCalls := context.WithTimeout(ctx, callGrace+closeGrace+meshGrace+lastGrace)
	defer cancelCalls()

	// Both refuse new clients and new calls of backends at once. Peers may still call, for as long
	// as this hub holds connections.
	edgeDown := make(chan error, 1)
	go func() { edgeDown <- s.edge.Shutdown(clients) }()
	s.control.Leave()
	s.events.GoAway()
	grace := time.NewTimer(finish)
	defer grace.Stop()
	var problems []error
	select {
	case <-s.control.Quiet():
	case <-grace.C:
	}
	// Clients get 1001. Their end also ends the calls that wait for them.
	problems = append(problems, s.hub.Shutdown(clients), <-edgeDown)
	// There are no new events. Subscribers get the queued events. Slow subscribers are cut.
	farewell, cancelFarewell := context.WithTimeout(ctx, meshGrace)
	defer cancelFarewell()
	eventsDown := make(chan error, 1)
	go func() { eventsDown <- s.events.Shutdown(farewell) }()
	if s.cluster != nil {
		// Peers have no target left at this hub. Their streams end with the farewell.
		problems = append(problems, s.cluster.leaveCluster(farewell))
	}
	problems = append(problems, <-eventsDown)
	problems = append(problems, s.control.Shutdown(calls))

	last, cancelLast := context.WithTimeout(ctx, opsGrace)
	defer cancelLast()
	s.ops.shutdownServer(last)
	if s.cluster != nil {
		s.cluster.closeParts()
	}
	s.closeKeySet()
	s.closeListeners() // the edge owns that of clients only after the hub was ready
	s.log.writeCounts()
	if err := errors.Join(problems...); err != nil {
		s.logger.Warn("not everything ended in time", slog.Any("error", err))
	}
	s.logger.Info("stopped", slog.Duration("took", time.Since(began).Round(time.Millisecond)))
}
