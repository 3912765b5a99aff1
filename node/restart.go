package node

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

// Each restart closes all clients of the hub, and all of them connect again. So the pauses between
// restarts in a row grow. The first restart has none: its usual cause is a cut network or a paused
// process, and that is over.
const (
	// restartPause comes before the second restart in a row. Each pause after it is twice as long.
	restartPause = time.Second
	// restartPauseMost is the longest pause. It brings a hub back soon after the cause is gone.
	restartPauseMost = time.Minute
	// restartQuiet is how long a hub must last to end the row; far above restartPauseMost.
	restartQuiet = 10 * time.Minute
)

// restarts counts how often the process continued as another hub after the end of a hub.
type restarts struct {
	forgotten, declaredDead float64

	row int // restarts in a row, without a hub that lasted for restartQuiet
}

// countRestart counts a restart after a hub that ended with err and lasted for a time.
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

// nextPause returns the time that the hub after the last restart waits before it joins the cluster.
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

// waitPause waits for the pause. It returns false if ctx ended: the hub shall not join then.
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

// reasonWords is the text of /readyz while the hub pauses.
func (r *restarts) reasonWords() string {
	return fmt.Sprintf("starting anew for time %d in a row: joining the cluster after a "+
		"pause of %v", r.row, r.nextPause())
}

// startsAnew reports whether another hub takes the place of a hub that ended with err.
func startsAnew(err error) bool {
	return errors.Is(err, mesh.ErrForgotten) || errors.Is(err, discovery.ErrDeclaredDead)
}

// planSuccessor plans the hub that follows s, which ended with err and lasted for a time. The new
// hub has another id, and the same addresses.
func (s *server) planSuccessor(p Config, err error, lasted time.Duration) Config {
	a := s.boundAddresses()
	p.Hub.ID, p.Ready = hub.NewID(), nil
	p.ListenClients, p.ListenControl, p.ListenOps = a.Clients, a.Control, a.Ops
	if a.Etcd != "" {
		p.Cluster.Embedded.ClientAddress = a.Etcd
	}
	p.restarts.countRestart(err, lasted)
	return p
}

// joinCluster takes part in the cluster, after the pause, until the shutdown or until that is no
// longer possible. During the pause no message of a peer can start the hub anew, so no peer cuts
// the pause short.
func (s *server) joinCluster(ctx context.Context) error {
	s.pauses.Store(s.restarts.nextPause() > 0)
	joins := s.restarts.waitPause(ctx)
	s.pauses.Store(false)
	if !joins {
		return nil
	}
	// takeDown ends the mesh, not ctx: calls in flight need it
	return s.cluster.takePart(context.WithoutCancel(ctx))
}

// waitsFor names the reason why the hub has not joined the cluster yet.
func (s *server) waitsFor() string {
	if s.pauses.Load() {
		return s.restarts.reasonWords()
	}
	return s.cluster.waitsFor()
}

func (r restarts) registerMetrics(registry prometheus.Registerer) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_restarts_total",
		Help: "Times that this process closed its clients and went on as another hub, by why the " +
			"one before was over. From the second in a row on, a pause of 1 s to 1 min comes " +
			"before the other hub joins the cluster.",
	}, []string{"reason"})
	total.WithLabelValues("forgotten").Add(r.forgotten)
	total.WithLabelValues("declared_dead").Add(r.declaredDead)
	registry.MustRegister(total)
}
