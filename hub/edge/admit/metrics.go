package admit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// metrics are the instruments of a Queue. Its caller counts refused clients.
type metrics struct {
	held    [classes]prometheus.Gauge
	seconds [classes]prometheus.Observer
}

// newMetrics registers the instruments with r. A nil r registers none.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	held := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_handshakes_held",
		Help: "Handshakes that are held because more clients connect than the rate allows, " +
			"by class.",
	}, []string{"class"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "connhub_handshake_hold_seconds",
		Help: "How long handshakes were held, by class. Those that were admitted at once do " +
			"not count.",
		Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5},
	}, []string{"class"})
	m := &metrics{}
	for c := range classes {
		m.held[c] = held.WithLabelValues(classNames[c])
		m.seconds[c] = seconds.WithLabelValues(classNames[c])
	}
	if err := config.Register(r, held, seconds); err != nil {
		return nil, fmt.Errorf("admit metrics: %w", err)
	}
	return m, nil
}
