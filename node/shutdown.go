package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/node/ops"
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

// serveUntilDone serves until ctx ends, or until a port or the cluster fails. Then it shuts down.
func (s *server) serveUntilDone(ctx context.Context, ready func(Addresses)) error {
	ended, waiting := make(chan error, 5), 0
	start := func(part func() error) {
		waiting++
		go func() { ended <- part() }()
	}
	start(func() error { return s.ops.Serve(s.opsListener) })
	// Peers call before this hub is ready, backends do not.
	start(func() error { return s.control.Serve(s.controlListener) })
	joined := alone
	if s.cluster != nil {
		joined = s.cluster.mesh.Ready()
		s.ops.SetUnready(s.waitsFor)
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
		s.ops.SetReady("")
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

// takeDown takes the hub down in order; see doc.go. Calls in flight have the time finish to end
// before clients are closed. It cuts everything that is not down in time.
func (s *server) takeDown(ctx context.Context, finish time.Duration) {
	began := time.Now()
	s.ops.SetReady(ops.ReasonStopping)
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
}
