package discovery

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// metrics has the instruments of the package. Labels are typed reasons, never ids.
type metrics struct {
	registrations *prometheus.CounterVec      // attempts, by result
	ignored       prometheus.Gauge            // keys that are not read
	resyncs       [lossEnd]prometheus.Counter // reads of all hubs, by the loss before
}

// newMetrics registers the instruments with reg; a nil reg registers none.
func newMetrics(reg prometheus.Registerer, r *Registry) (*metrics, error) {
	hubs := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_discovery_hubs",
		Help: "Hubs that etcd lists, as last heard, this one included.",
	}, func() float64 { return float64(r.board.countMembers()) })
	stale := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_discovery_stale_seconds",
		Help: "For how long etcd has not been heard. 0 while it is.",
	}, func() float64 { return r.StaleFor().Seconds() })
	m := &metrics{
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_discovery_registrations_total",
			Help: "Attempts to list this hub in etcd, at its start or because etcd lost it, " +
				"by result.",
		}, []string{"result"}),
	}
	m.ignored = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connhub_discovery_keys_ignored",
		Help: "Keys of hubs in etcd that are ignored: they can't be read, or there are too many.",
	})
	for _, result := range results {
		m.registrations.WithLabelValues(result.label)
	}
	m.registrations.WithLabelValues(resultRegistered)
	m.registrations.WithLabelValues(resultFailed)
	resyncs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_discovery_resyncs_total",
		Help: "Times that all hubs were read anew, by why etcd had been lost.",
	}, []string{"reason"})
	for l := loss(1); l < lossEnd; l++ {
		m.resyncs[l] = resyncs.WithLabelValues(l.String())
	}
	return m, config.Register(reg, hubs, stale, m.registrations, m.ignored, resyncs)
}

const (
	resultRegistered = "registered"
	resultFailed     = "failed" // a failure that may pass: etcd can't be reached, for example
)

// results are the remaining results of an attempt to register, by its error.
var results = []struct {
	err   error
	label string
}{
	{ErrIDTaken, "id_taken"},
	{ErrDeclaredDead, "declared_dead"},
	{ErrForeignCluster, "foreign_cluster"},
	{ErrRefused, "refused"},
}

// countRegistration counts an attempt to register; err is its result.
func (m *metrics) countRegistration(err error) {
	m.registrations.WithLabelValues(registrationResult(err)).Inc()
}

// registrationResult returns the metric label for the result of an attempt to register.
func registrationResult(err error) string {
	if err == nil {
		return resultRegistered
	}
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.label
		}
	}
	return resultFailed
}
