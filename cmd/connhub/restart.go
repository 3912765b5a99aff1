package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/hub"
)

// Restarts in a row are further and further apart: each of them closes all clients of the hub, and
// they all come again. The first restart is at once: a cut or a pause that is over is its usual cause.
const (
	// restartPause comes before the second restart in a row. Each pause after it is twice as long.
	restartPause = time.Second
	// restartPauseMost is the longest pause, so that a hub is back soon after the cause is gone.
	restartPauseMost = time.Minute
	// restartQuiet is how long a hub must last to end the row; far above restartPauseMost.
	restartQuiet = 10 * time.Minute
)

// restarts counts how often the process went on with another hub in the place of one that was over.
type restarts struct {
	forgotten, declaredDead float64

	row int // of them without a hub that lasted for restartQuiet
}

// countRestart counts a restart after a hub that ended with err, and lasted for a time.
func (r *restarts) countRestart(err error, lasted time.Duration) {
	if errors.Is(err, discovery.ErrDeclaredDead) {
		r.declaredDead++
	} else {
		r.forgotten++
	}
	if lasted >= restartQuiet {
		r.row = 0
	}
	r.row++
}

// nextPause is for how long the hub that follows the last restart waits before it joins the cluster.
func (r *restarts) nextPause() time.Duration {
	if r.row < 2 {
		return 0
	}
	pause := restartPause
	for i := 2; i < r.row && pause < restartPauseMost; i++ {
		pause *= 2
	}
	return min(pause, restartPauseMost)
}

// waitPause waits for the pause. It reports whether the hub is to join; false: ctx ended.
func (r *restarts) waitPause(ctx context.Context) bool {
	if r.nextPause() == 0 {
		return true
	}
	timer := time.NewTimer(r.nextPause())
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// reasonWords says to a caller of /readyz why a hub that pauses is not ready.
func (r *restarts) reasonWords() string {
	return fmt.Sprintf("starting anew for time %d in a row: joining the cluster after a pause of %v", r.row, r.nextPause())
}

// startsAnew reports whether another hub is to take the place of one that ended with err.
func startsAnew(err error) bool {
	return errors.Is(err, mesh.ErrForgotten) || errors.Is(err, discovery.ErrDeclaredDead)
}

// planSuccessor plans the hub that follows s, which ended with err and lasted for a time: it has another
// id, and the same addresses.
func (s *server) planSuccessor(p serverPlan, err error, lasted time.Duration) serverPlan {
	a := s.boundAddresses()
	p.hub.ID = hub.NewID()
	p.listenClients, p.listenControl, p.listenOps = a.clients, a.control, a.ops
	if a.etcd != "" {
		p.cluster.embedded.ClientAddress = a.etcd
	}
	p.restarts.countRestart(err, lasted)
	return p
}

// joinCluster takes part in the cluster, after the pause, until shutdown or until that is no longer
// possible. Until then nothing that a peer says has the hub start anew, so no peer cuts the pause short.
func (s *server) joinCluster(ctx context.Context) error {
	s.pauses.Store(s.restarts.nextPause() > 0)
	joins := s.restarts.waitPause(ctx)
	s.pauses.Store(false)
	if !joins {
		return nil
	}
	return s.cluster.takePart(context.WithoutCancel(ctx)) // the mesh is ended by shutdown, not by ctx: calls in flight need it
}

// waitsFor says what keeps the hub from being one of the cluster.
func (s *server) waitsFor() string {
	if s.pauses.Load() {
		return s.restarts.reasonWords()
	}
	return s.cluster.waitsFor()
}

func (r restarts) registerMetrics(registry prometheus.Registerer) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_restarts_total",
		Help: "Times that this process closed its clients and went on as another hub, by why the one before was over. " +
			"From the second in a row on, a pause of 1 s to 1 min comes before the other hub joins the cluster.",
	}, []string{"reason"})
	total.WithLabelValues("forgotten").Add(r.forgotten)
	total.WithLabelValues("declared_dead").Add(r.declaredDead)
	registry.MustRegister(total)
}
