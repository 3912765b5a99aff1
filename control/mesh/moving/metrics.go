package moving

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/transfer"
)

// metrics holds the instruments of moves.
type metrics struct {
	moves    *prometheus.CounterVec
	failures *prometheus.CounterVec
	takes    prometheus.Counter
	duration prometheus.Histogram
}

// moveBuckets reach from a move between idle hubs to one that waited for several marks. In seconds.
var moveBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

func newMetrics() *metrics {
	return &metrics{
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_moves_total",
			Help: "Moves of connections from this hub to another that have ended: done; failed, " +
				"so the connection stayed; lost with the other hub; in_doubt, because the " +
				"other hub did not answer for the resume window.",
		}, []string{"outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_move_failures_total",
			Help: "Steps of moves that failed at this hub, by cause.",
		}, []string{"cause"}),
		takes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_takes_total",
			Help: "Connections that this hub asked another for, because their clients came here.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "connhub_move_seconds",
			Help:    "How long connections rested for a move from this hub that was done.",
			Buckets: moveBuckets,
		}),
	}
}

// Collectors returns the instruments of moves.
func (s *Shell) Collectors() []prometheus.Collector {
	m := s.metrics
	return []prometheus.Collector{m.moves, m.failures, m.takes, m.duration}
}

func (m *metrics) observeMove(outcome string, took time.Duration) {
	m.moves.WithLabelValues(outcome).Inc()
	if outcome == outcomeDone {
		m.duration.Observe(took.Seconds())
	}
}

// The outcomes of moves.
const (
	outcomeDone   = "done"
	outcomeFailed = "failed"
	outcomeLost   = "lost"
	outcomeDoubt  = "in_doubt"
)

// causes are the labels for the causes for which a step of a move fails.
var causes = []struct {
	err   error
	label string
}{
	{hub.ErrConnectionNotFound, "gone"},
	{hub.ErrClosed, "gone"},
	{hub.ErrResumeRefused, "not_resumable"},
	{hub.ErrShuttingDown, "shutting_down"},
	{hub.ErrTooManyConnections, "connection_limit"},
	{transfer.ErrMemory, "memory"},
	{transfer.ErrBehind, "behind"},
	{transfer.ErrStale, "stale"},
	{transfer.ErrMoving, "moving"},
	{errOldPeer, "old_peer"},
}

func (m *metrics) countFailure(err error) {
	label := "other"
	for _, c := range causes {
		if errors.Is(err, c.err) {
			label = c.label
			break
		}
	}
	m.failures.WithLabelValues(label).Inc()
}
