package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
)

const (
	// defaultDrainDelay is enough for Kubernetes to take a pod off its Services, and for a balancer
	// that probes /readyz every 2 s to miss it twice.
	defaultDrainDelay = 5 * time.Second
	// defaultDrainPeriod spreads 10,000 clients to 330 connects a second at the other hubs, and
	// leaves a rolling update of three hubs below two minutes.
	defaultDrainPeriod = 30 * time.Second
	// maxDrain bounds both: a longer drain is a forgotten hub.
	maxDrain = time.Hour
	// moveGrace is for the moves that have begun when the drain is over. A hub that leaves earlier
	// would leave them in doubt at its peers. It is more than the 500 ms that the other hubs have
	// for their marks. A move to a hub that does not answer lasts longer, and is not waited for.
	moveGrace = time.Second
)

// DrainConfig configures how a hub leaves its clients. DefaultDrainConfig fills it. Without delay
// and period all clients are closed at once.
type DrainConfig struct {
	// Delay is the time from /readyz=503 until the hub refuses new clients and calls: balancers
	// need it to notice. 0 to 1 h.
	Delay time.Duration
	// Period is the time over which the closes of clients are spread. Resumable connections are
	// moved to other hubs within it, and none if it is 0. 0 to 1 h.
	Period time.Duration
}

// DefaultDrainConfig returns the defaults of a hub behind a balancer.
func DefaultDrainConfig() DrainConfig { return DrainConfig{defaultDrainDelay, defaultDrainPeriod} }

// Validate returns all problems of c.
func (c *DrainConfig) Validate() config.Problems {
	var p config.Problems
	check := func(field string, d time.Duration) {
		p.Require(d >= 0 && d <= maxDrain, field, "is %v, must be from 0s to %v", d, maxDrain)
	}
	check("Delay", c.Delay)
	check("Period", c.Period)
	return p
}

// drain is the state of a hub's drain. Its methods are safe for concurrent use.
type drain struct {
	// Static.
	config DrainConfig
	hub    *hub.Hub
	mesh   *mesh.Mesh // nil: there are no other hubs
	logger *slog.Logger

	begun     chan struct{} // closed by Begin
	beginOnce sync.Once
	moved     atomic.Int64 // connections that the drain has moved to other hubs
	closed    atomic.Int64 // connections that the drain has closed

	mu    sync.Mutex
	phase fleet.DrainPhase
	since time.Time // of the phase
}

var _ fleet.Drainer = (*drain)(nil)

func newDrain(c DrainConfig, h *hub.Hub, m *mesh.Mesh, logger *slog.Logger) *drain {
	return &drain{config: c, hub: h, mesh: m, logger: logger, begun: make(chan struct{})}
}

// Begin implements fleet.Drainer. The hub drains when it serves.
func (d *drain) Begin() { d.beginOnce.Do(func() { close(d.begun) }) }

// hasBegun reports whether Begin was called.
func (d *drain) hasBegun() bool {
	select {
	case <-d.begun:
		return true
	default:
		return false
	}
}

// Progress implements fleet.Drainer.
func (d *drain) Progress() fleet.DrainProgress {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := fleet.DrainProgress{
		Phase: max(d.phase, fleet.DrainDelay), Connections: d.hub.Len(),
		Moved: int(d.moved.Load()), Closed: int(d.closed.Load()),
	}
	switch d.phase {
	case fleet.DrainDone:
		return p
	case fleet.DrainClosing:
		p.TimeLeft = d.config.Period - time.Since(d.since)
	case fleet.DrainDelay:
		p.TimeLeft = d.config.Delay + d.config.Period - time.Since(d.since)
	default: // the hub is about to begin
		p.TimeLeft = d.config.Delay + d.config.Period
	}
	p.TimeLeft = max(0, p.TimeLeft)
	return p
}

// takesTime reports whether SIGTERM begins a drain. Without delay and period it ends the hub at
// once.
func (d *drain) takesTime() bool { return d.config != DrainConfig{} }

// enterPhase records that the drain has come to a phase.
func (d *drain) enterPhase(p fleet.DrainPhase) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase, d.since = p, time.Now()
}

func (d *drain) currentPhase() fleet.DrainPhase {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.phase
}

// awaitDelay waits for balancers to notice that the hub is unready. It returns the error of a part
// that fails meanwhile.
func (d *drain) awaitDelay(p *parts) error {
	d.enterPhase(fleet.DrainDelay)
	d.logger.Info("drain begins", slog.Bool("by_call", d.hasBegun()),
		slog.Int("connections", d.hub.Len()),
		slog.Duration("delay", d.config.Delay), slog.Duration("period", d.config.Period))
	ctx, cancel := context.WithTimeout(context.Background(), d.config.Delay)
	defer cancel()
	return p.awaitDone(ctx.Done())
}

// releaseClients moves and closes the clients over the period. It returns the error of a part that
// fails meanwhile. The caller must have stopped new clients.
func (d *drain) releaseClients(p *parts) error {
	d.enterPhase(fleet.DrainClosing)
	began, held := time.Now(), d.hub.Len()
	d.logger.Info("drain closes clients", slog.Int("connections", held))
	ctx, cancel := context.WithCancel(context.Background())
	e := &exodus{
		hub: d.hub, period: d.config.Period,
		moved:  func() { d.moved.Add(1) },
		closed: func(count int) { d.closed.Add(int64(count)) },
	}
	if d.mesh != nil {
		by := began.Add(d.config.Period - d.config.Period/lastPart)
		e.move = func(ctx context.Context, ids []hub.ConnectionID, moved func()) int {
			return d.mesh.Moves.MoveAway(ctx, mesh.Away{
				Connections: ids, By: by, Moved: moved, Rooms: roomsOf(d.mesh, d.hub),
			})
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run(ctx)
		d.awaitMoves(ctx)
	}()
	failed := p.awaitDone(done)
	cancel()
	<-done
	if failed != nil {
		return failed
	}
	d.enterPhase(fleet.DrainDone)
	d.logger.Info("drained", slog.Int("connections", held),
		slog.Int64("moved", d.moved.Load()), slog.Int64("closed", d.closed.Load()),
		slog.Int("left_open", d.hub.Len()),
		slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return nil
}

// roomsOf returns a function that asks the peers of h for their room for connections.
func roomsOf(m *mesh.Mesh, h *hub.Hub) func(context.Context) []mesh.Room {
	return func(ctx context.Context) []mesh.Room { return fleet.AskRooms(ctx, m, h.Started()) }
}

// awaitMoves waits for moves that have begun, for moveGrace at most.
func (d *drain) awaitMoves(ctx context.Context) {
	if d.mesh == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, moveGrace)
	defer cancel()
	if err := d.mesh.Moves.AwaitMoves(ctx); err != nil {
		d.logger.Warn("drain ends before its moves", slog.Any("error", err))
	}
}

func (d *drain) registerMetrics(r prometheus.Registerer) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "connhub_drain_phase",
			Help: "How far the drain of this hub is: 0 none has begun, 1 unready and serving " +
				"until balancers notice, 2 moving and closing clients, 3 drained.",
		}, func() float64 { return float64(d.currentPhase()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "connhub_drain_moved_total",
			Help: "Connections that the drain of this hub has moved to other hubs. Those that " +
				"other hubs took for their clients meanwhile do not count.",
		}, func() float64 { return float64(d.moved.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "connhub_drain_closed_total",
			Help: "Connections that the drain of this hub has closed. Those that left by " +
				"themselves meanwhile do not count.",
		}, func() float64 { return float64(d.closed.Load()) }),
	)
}
