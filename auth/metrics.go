package auth

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// keySetMetrics are the instruments of a KeySet.
type keySetMetrics struct {
	refreshes  *prometheus.CounterVec
	ok, failed prometheus.Counter // of refreshes
	keys       prometheus.Gauge
	refreshed  prometheus.Gauge
}

// newKeySetMetrics makes the instruments, and registers none.
func newKeySetMetrics() keySetMetrics {
	refreshes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_jwks_refreshes_total",
		Help: "Times that the set of public keys of client tokens was read, by result.",
	}, []string{"result"})
	return keySetMetrics{
		refreshes: refreshes,
		ok:        refreshes.WithLabelValues("ok"),
		failed:    refreshes.WithLabelValues("failed"),
		keys: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_jwks_keys",
			Help: "Public keys that client tokens may be signed with.",
		}),
		refreshed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_jwks_refreshed_timestamp_seconds",
			Help: "When the set of public keys was last read with success.",
		}),
	}
}

// registerWith registers the instruments with r; a nil r registers none.
func (m *keySetMetrics) registerWith(r prometheus.Registerer) error {
	return config.Register(r, m.refreshes, m.keys, m.refreshed)
}
