package auth

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// keySetMetrics are the instruments of a KeySet.
type keySetMetrics struct {
	ok, failed prometheus.Counter
	keys       prometheus.Gauge
	refreshed  prometheus.Gauge
}

// newKeySetMetrics registers the instruments with r; a nil r registers none.
func newKeySetMetrics(r prometheus.Registerer) keySetMetrics {
	f := promauto.With(r)
	refreshes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_jwks_refreshes_total",
		Help: "Times that the set of public keys of client tokens was read, by result.",
	}, []string{"result"})
	return keySetMetrics{
		ok:     refreshes.WithLabelValues("ok"),
		failed: refreshes.WithLabelValues("failed"),
		keys: f.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_jwks_keys",
			Help: "Public keys that client tokens may be signed with.",
		}),
		refreshed: f.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_jwks_refreshed_timestamp_seconds",
			Help: "When the set of public keys was last read with success.",
		}),
	}
}
