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
)

const (
	// rebalanceRate is the most connections that a hub moves in a second to balance the hubs. Their
	// clients come back at once, and nothing is in a hurry.
	rebalanceRate = 100
	// maxRebalance bounds the moves: the loads that they are for are out of date by then.
	maxRebalance = 10 * time.Minute
)

// rebalance moves connections of a hub to hubs that have fewer. Its methods are safe for concurrent
// use.
type rebalance struct {
	// Static.
	hub    *hub.Hub
	mesh   *mesh.Mesh
	logger *slog.Logger

	ctx  context.Context // of the moves
	stop context.CancelFunc

	moved atomic.Int64   // connections, of all rebalances
	tasks sync.WaitGroup // the moves of the latest

	mu     sync.Mutex
	latest fleet.RebalanceProgress
	before int64 // moved when the latest began
}

var _ fleet.Rebalancer = (*rebalance)(nil)

func newRebalance(h *hub.Hub, m *mesh.Mesh, logger *slog.Logger) *rebalance {
	r := &rebalance{hub: h, mesh: m, logger: logger}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Rebalance implements fleet.Rebalancer.
func (r *rebalance) Rebalance(
	id string, quotas map[hub.ID]int,
) (fleet.RebalanceProgress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return fleet.RebalanceProgress{}, hub.ErrShuttingDown
	}
	if len(quotas) > 0 && !r.latest.IsMoving && r.latest.ID != id {
		r.latest, r.before = fleet.RebalanceProgress{ID: id, IsMoving: true}, r.moved.Load()
		for _, n := range quotas {
			r.latest.Surplus += n
		}
		r.logger.Info("rebalance begins", slog.Int("connections", r.hub.Len()),
			slog.Int("surplus", r.latest.Surplus), slog.Int("to_hubs", len(quotas)))
		r.tasks.Go(func() { r.moveSurplus(quotas) })
	}
	return r.progressLocked(), nil
}

func (r *rebalance) progressLocked() fleet.RebalanceProgress {
	p := r.latest
	p.Moved = int(r.moved.Load() - r.before)
	return p
}

// moveSurplus moves connections until the quotas are used up, no hub takes more, or the hub leaves.
func (r *rebalance) moveSurplus(quotas map[hub.ID]int) {
	ctx, cancel := context.WithTimeout(r.ctx, maxRebalance)
	defer cancel()
	began := time.Now()
	_, resumable := r.hub.DrainOrder()
	ids := make([]hub.ConnectionID, len(resumable))
	for i, c := range resumable {
		ids[i] = c.ID()
	}
	r.mesh.Moves.MoveAway(ctx, mesh.Away{
		Connections: ids, Quotas: quotas, Rate: rebalanceRate,
		Moved: func() { r.moved.Add(1) }, Rooms: roomsOf(r.mesh, r.hub),
	})
	r.mu.Lock()
	r.latest.IsMoving = false
	p := r.progressLocked()
	r.mu.Unlock()
	r.logger.Info("rebalanced", slog.Int("surplus", p.Surplus), slog.Int("moved", p.Moved),
		slog.Int("connections", r.hub.Len()),
		slog.Duration("took", time.Since(began).Round(time.Millisecond)))
}

// endMoves ends the moves for good: the hub leaves. It is called once.
func (r *rebalance) endMoves() {
	r.mu.Lock()
	r.stop() // none begins behind it
	r.mu.Unlock()
	r.tasks.Wait()
}

func (r *rebalance) registerMetrics(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "connhub_rebalance_moved_total",
		Help: "Connections that this hub has moved to others because it had more than they.",
	}, func() float64 { return float64(r.moved.Load()) }))
}
