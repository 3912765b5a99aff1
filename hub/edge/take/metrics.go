package take

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
)

// metrics are the instruments of Takes. The caller counts the clients that ErrLimit refuses.
type metrics struct {
	underWay prometheus.Gauge

	here, refused, unknown, left prometheus.Observer
}

// newMetrics registers the instruments with r. A nil r registers none.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	underWay := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connhub_takes",
		Help: "Clients that came back and wait for a connection of another hub.",
	})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "connhub_take_seconds",
		Help: "How long clients that came back waited for a connection of another hub, by " +
			"result.",
		Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
	}, []string{"result"})
	m := &metrics{
		underWay: underWay,
		here:     seconds.WithLabelValues("here"),
		refused:  seconds.WithLabelValues("refused"),
		unknown:  seconds.WithLabelValues("unknown"),
		left:     seconds.WithLabelValues("left"),
	}
	if err := config.Register(r, underWay, seconds); err != nil {
		return nil, fmt.Errorf("take metrics: %w", err)
	}
	return m, nil
}

// observeTake counts a take that has ended with err.
func (m *metrics) observeTake(err error, took time.Duration) {
	result := m.unknown
	switch {
	case err == nil:
		result = m.here
	case errors.Is(err, hub.ErrResumeRefused):
		result = m.refused
	case errors.Is(err, ErrLeft):
		result = m.left
	}
	result.Observe(took.Seconds())
}
