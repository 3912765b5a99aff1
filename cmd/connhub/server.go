package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/plain"
)

// Time limits of a shutdown, one after the other. Together they stay below the 10 s after which a hub is
// down whatever happens.
const (
	callGrace  = 3 * time.Second        // for calls in flight
	closeGrace = 3 * time.Second        // for clients to read what is queued and to answer their close; then they are cut
	lastGrace  = time.Second            // for calls that waited for those clients to answer
	opsGrace   = 500 * time.Millisecond // for a scrape
)

// serverPlan is all that a hub process needs to know, checked.
type serverPlan struct {
	hub  hub.Config
	edge edge.Config

	listenClients, listenControl, listenOps string
	publicURL                               *url.URL // nil: the clients' listen address

	tokens          *auth.TokenKey // nil: none, then anonymous
	secrets         *auth.Secrets  // nil: none, then insecureControl
	opsSecrets      *auth.Secrets  // nil: none, then the port is on loopback
	anonymous       bool
	insecureControl bool
	loopbackOnly    bool
	page            bool // the demo page at /

	clientsTLS, controlTLS *certificate // nil: no TLS
}

// addresses are where a hub listens, host:port each.
type addresses struct{ clients, control, ops string }

// server is a hub with its three ports. This file is the only place that knows how they are joined.
type server struct {
	// Static after newServer.
	logger   *slog.Logger
	closeLog *closeLog
	hub      *hub.Hub
	edge     *edge.Server
	control  *control.Server
	ops      *opsServer

	clientsListener, controlListener, opsListener net.Listener
}

// runServer runs a hub until ctx ends, and takes it down. ready may be nil.
func runServer(ctx context.Context, plan serverPlan, logger *slog.Logger, ready func(addresses)) error {
	s, err := newServer(plan, logger)
	if err != nil {
		return err
	}
	return s.run(ctx, ready)
}

// newServer binds the ports and joins the parts. Nothing is served yet.
func newServer(plan serverPlan, logger *slog.Logger) (_ *server, err error) {
	s := &server{logger: logger, closeLog: newCloseLog(logger)}
	defer func() {
		if err != nil {
			s.closeListeners()
			s.closeLog.Close()
		}
	}()
	if err := s.listen(plan); err != nil {
		return nil, err
	}
	if plan.publicURL == nil {
		plan.publicURL = &url.URL{Scheme: "http", Host: s.clientsListener.Addr().String()}
		if plan.clientsTLS != nil {
			plan.publicURL.Scheme = "https"
		}
	}
	for _, c := range []*certificate{plan.clientsTLS, plan.controlTLS} {
		if c != nil {
			c.logger = logger
		}
	}
	if err := s.join(plan); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *server) listen(plan serverPlan) error {
	var problems []string
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
			problems = append(problems, fmt.Sprintf("%s %s: %s", l.flag, l.address, listenWords(err)))
			continue
		}
		*l.listener = listener
	}
	if len(problems) > 0 { // on one line: it is what a supervisor shows
		return errors.New("can't listen: " + strings.Join(problems, "; "))
	}
	return nil
}

func listenWords(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is taken; is another hub running?"
	case errors.Is(err, syscall.EACCES):
		return "not allowed for this user"
	default:
		return dialWords(err)
	}
}

// join makes hub, edge, control and operations of one plan.
func (s *server) join(plan serverPlan) error {
	registry := newRegistry()
	plan.hub.Metrics, plan.hub.Sink = registry, s.closeLog
	var err error
	if s.hub, err = hub.New(plan.hub); err != nil {
		return err
	}

	e := plan.edge
	e.Hub, e.Logger, e.Metrics = s.hub, s.logger, registry
	e.Tokens, e.Anonymous, e.LoopbackOnly, e.PublicURL = plan.tokens, plan.anonymous, plan.loopbackOnly, plan.publicURL
	e.Plain, e.Protocols = plain.Protocol{}, []edge.Protocol{envelope.Protocol{}}
	if plan.page {
		if e.Page, err = newPage(s.controlListener.Addr().String()); err != nil {
			return err
		}
	}
	if s.edge, err = edge.New(e); err != nil {
		return err
	}
	if plan.clientsTLS != nil {
		s.clientsListener = tls.NewListener(s.clientsListener, plan.clientsTLS.config("http/1.1"))
	}

	c := control.Config{
		Hub: s.hub, Secrets: plan.secrets, Insecure: plan.insecureControl, Tokens: plan.tokens,
		PublicURL: plan.publicURL, Logger: s.logger, Metrics: registry,
	}
	if plan.controlTLS != nil {
		c.TLS = plan.controlTLS.config("h2")
	}
	if s.control, err = control.New(c); err != nil {
		return err
	}
	s.ops = newOpsServer(s.hub, plan.opsSecrets, registry, s.logger)
	return nil
}

func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.clientsListener, s.controlListener, s.opsListener} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s *server) addresses() addresses {
	return addresses{
		clients: s.clientsListener.Addr().String(),
		control: s.controlListener.Addr().String(),
		ops:     s.opsListener.Addr().String(),
	}
}

// run serves until ctx ends or a port fails, then shuts down.
func (s *server) run(ctx context.Context, ready func(addresses)) error {
	ended := make(chan error, 3)
	go func() { ended <- s.ops.serve(s.opsListener) }()
	go func() { ended <- s.control.Serve(s.controlListener) }()
	go func() { ended <- s.edge.Serve(s.clientsListener) }()
	// A bound port takes connections before Serve accepts them, so this is true now.
	s.ops.setReady("")
	a := s.addresses()
	s.logger.Info("ready", slog.String("clients", a.clients), slog.String("control", a.control), slog.String("ops", a.ops),
		slog.String("hub", string(s.hub.ID())), slog.String("name", s.hub.Name()), slog.String("version", s.hub.Version()))
	if ready != nil {
		ready(a)
	}

	var failed error
	waiting := 3
	select {
	case <-ctx.Done():
	case failed = <-ended:
		waiting--
	}
	s.shutdown(context.WithoutCancel(ctx))
	for range waiting {
		failed = errors.Join(failed, <-ended)
	}
	return failed
}

// shutdown takes the hub down in order; see doc.go. What is not down in time is cut.
func (s *server) shutdown(ctx context.Context) {
	began := time.Now()
	s.ops.setReady(unreadyStopping)
	s.logger.Info("shutting down", slog.Int("connections", s.hub.Len()))
	clients, cancelClients := context.WithTimeout(ctx, callGrace+closeGrace)
	defer cancelClients()
	calls, cancelCalls := context.WithTimeout(ctx, callGrace+closeGrace+lastGrace)
	defer cancelCalls()

	// Both refuse at once what is new, and then wait: the edge for its links, control for its calls.
	edgeDown, controlDown := make(chan error, 1), make(chan error, 1)
	go func() { edgeDown <- s.edge.Shutdown(clients) }()
	go func() { controlDown <- s.control.Shutdown(calls) }()
	grace := time.NewTimer(callGrace)
	defer grace.Stop()
	var problems []error
	select {
	case err := <-controlDown:
		problems = append(problems, err)
		controlDown <- nil
	case <-grace.C:
	}
	// Clients get 1001. A call that waits for one of them learns how it ended, and ends.
	problems = append(problems, s.hub.Shutdown(clients), <-edgeDown, <-controlDown)

	last, cancelLast := context.WithTimeout(ctx, opsGrace)
	defer cancelLast()
	s.ops.shutdown(last)
	s.closeLog.Close()
	if err := errors.Join(problems...); err != nil {
		s.logger.Warn("not everything ended in time", slog.Any("error", err))
	}
	s.logger.Info("stopped", slog.Duration("took", time.Since(began).Round(time.Millisecond)))
}
