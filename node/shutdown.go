package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/node/ops"
)

// Time limits of the steps of a shutdown, without the drain. Together they are 9 s. The last second
// is for an etcd inside this process. So a hub is down 10 s after the drain in any case.
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

// serveUntilDone serves until ctx ends, or until a port or the cluster fails. Then it shuts down.
// The end of ctx drains the hub first. So does DrainHub, and the hub then waits for the end of ctx.
func (s *server) serveUntilDone(ctx context.Context, ready func(Addresses)) error {
	p := newParts()
	p.startPart(func() error { return s.ops.Serve(s.opsListener) })
	// Peers call before this hub is ready, backends do not.
	p.startPart(func() error { return s.control.Serve(s.controlListener) })
	joined := alone
	if s.cluster != nil {
		joined = s.cluster.mesh.Ready()
		s.ops.SetUnready(s.waitsFor)
		p.startPart(func() error { return s.joinCluster(ctx) })
		if s.cluster.etcd != nil {
			p.startPart(s.cluster.etcd.Wait)
		}
	}
	stopReloading := s.startReloading(ctx)
	defer stopReloading()
	a := s.boundAddresses()
	s.logger.Info("starting", append(a.logAttributes(), s.cluster.logAttributes()...)...)

	var failed error
	drains := false
	select {
	case <-joined:
		p.startPart(func() error { return s.edge.Serve(s.clientsListener) })
		// A bound port takes connections before Serve accepts them, so this is true now.
		s.ops.SetReady("")
		s.logger.Info("ready", append(a.logAttributes(),
			slog.String("hub", string(s.hub.ID())), slog.String("name", s.hub.Name()),
			slog.String("version", s.hub.Version()))...)
		if ready != nil {
			ready(a)
		}
		select {
		case <-ctx.Done():
			drains = s.drain.takesTime()
		case <-s.drain.begun:
			drains = true
		case err := <-p.ended:
			failed = p.noteEnd(err)
		}
	case <-ctx.Done():
	case err := <-p.ended:
		failed = p.noteEnd(err)
	}
	return p.awaitAll(s.takeDown(ctx, p, drains, failed))
}

// alone is closed already: a hub without a cluster is ready at once.
var alone = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// takeDown takes the hub down in order; see doc.go. It cuts everything that is not down in time. If
// drains is set, clients and balancers get the time of the drain, and the drained hub waits for the
// end of signalled. failed is the error of the part that ended the hub. takeDown returns it, or the
// error of a part that ended the drain.
func (s *server) takeDown(
	signalled context.Context, p *parts, drains bool, failed error,
) error {
	began, ctx := time.Now(), context.WithoutCancel(signalled)
	s.forgetClients(failed)
	s.control.SetUnready()
	if s.cluster != nil {
		s.cluster.mesh.GoAway() // from now on other hubs that drain move no client here
		s.rebalance.endMoves()
	}
	if drains {
		s.ops.SetReady(ops.ReasonDraining)
		failed = s.drain.awaitDelay(p)
	} else {
		s.noteShutdown()
	}

	// Both refuse new clients and new calls of backends at once. Peers may still call, for as long
	// as this hub holds connections.
	edgeContext, cutEdge := context.WithCancel(ctx)
	defer cutEdge()
	edgeDown := make(chan error, 1)
	go func() { edgeDown <- s.edge.Shutdown(edgeContext) }()
	s.control.Leave()
	s.events.GoAway()
	waited := s.awaitCalls(failed)
	if drains {
		if failed == nil {
			failed = s.drain.releaseClients(p)
		}
		if failed == nil {
			s.ops.SetReady(ops.ReasonDrained)
			failed = p.awaitDone(signalled.Done())
		}
		s.noteShutdown()
	}
	s.forgetClients(failed)

	clients, cancelClients := context.WithTimeout(ctx, callGrace+closeGrace-waited)
	defer cancelClients()
	defer context.AfterFunc(clients, cutEdge)()
	calls, cancelCalls := context.WithTimeout(ctx,
		callGrace+closeGrace+meshGrace+lastGrace-waited)
	defer cancelCalls()
	// Clients get 1001. Their end also ends the calls that wait for them.
	problems := []error{s.hub.Shutdown(clients), <-edgeDown}
	s.drain.enterPhase(fleet.DrainDone) // also if it was cut short
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
	s.ops.Shutdown(last)
	if s.cluster != nil {
		s.cluster.closeParts()
	}
	s.closeKeySet()
	s.closeListeners() // the edge owns that of clients only after the hub was ready
	s.log.WriteCounts()
	if err := errors.Join(problems...); err != nil {
		s.logger.Warn("not everything ended in time", slog.Any("error", err))
	}
	s.logger.Info("stopped", slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return failed
}

// forgetClients makes the hub close its clients as forgotten, if a hub starts anew after failed.
func (s *server) forgetClients(failed error) {
	if startsAnew(failed) {
		s.hub.BeginShutdown(cause.Forgotten)
	}
}

// noteShutdown tells operators that the hub ends now, with a limit on each step.
func (s *server) noteShutdown() {
	s.ops.SetReady(ops.ReasonStopping)
	s.logger.Info("shutting down", slog.Int("connections", s.hub.Len()))
}

// awaitCalls waits until the calls of backends in flight have ended, for callGrace at most. The
// calls of a hub that starts anew are worthless: they have no time. It returns how long it waited.
func (s *server) awaitCalls(failed error) time.Duration {
	if startsAnew(failed) {
		return 0
	}
	began := time.Now()
	grace := time.NewTimer(callGrace)
	defer grace.Stop()
	select {
	case <-s.control.Quiet():
	case <-grace.C:
	}
	return min(time.Since(began), callGrace)
}
