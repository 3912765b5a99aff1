package discovery

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the package's instruments. A label is a typed reason, never an id.
type metrics struct {
	registrations *prometheus.CounterVec
	ignored       prometheus.Gauge
	resyncs       [lossEnd]prometheus.Counter
}

// newMetrics registers the instruments with reg; a nil reg registers none.
func newMetrics(reg prometheus.Registerer, r *Registry) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_discovery_hubs",
		Help: "Hubs that etcd lists, as last heard, this one included.",
	}, func() float64 { return float64(r.board.len()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_discovery_stale_seconds",
		Help: "For how long etcd has not been heard. 0 while it is.",
	}, func() float64 { return r.StaleFor().Seconds() })
	m := &metrics{
		registrations: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_discovery_registrations_total",
			Help: "Attempts to list this hub in etcd, at its start or because etcd lost it, by result.",
		}, []string{"result"}),
	}
	m.ignored = f.NewGauge(prometheus.GaugeOpts{
		Name: "connhub_discovery_keys_ignored",
		Help: "Keys of hubs in etcd that are ignored: they can't be read, or there are too many.",
	})
	for _, result := range results {
		m.registrations.WithLabelValues(result.label)
	}
	m.registrations.WithLabelValues(resultRegistered)
	m.registrations.WithLabelValues(resultFailed)
	resyncs := f.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_discovery_resyncs_total",
		Help: "Times that all hubs were read anew, by why etcd had been lost.",
	}, []string{"reason"})
	for l := loss(1); l < lossEnd; l++ {
		m.resyncs[l] = resyncs.WithLabelValues(l.String())
	}
	return m
}

const (
	resultRegistered = "registered"
	resultFailed     = "failed" // etcd is away, or anything else that may pass
)

// results are what a registration ends in besides.
var results = []struct {
	err   error
	label string
}{
	{ErrIDTaken, "id_taken"},
	{ErrDeclaredDead, "declared_dead"},
	{ErrForeignCluster, "foreign_cluster"},
	{ErrRefused, "refused"},
}

// registered counts an attempt to register.
func (m *metrics) registered(err error) { m.registrations.WithLabelValues(resultOf(err)).Inc() }

// resultOf sorts what an attempt to register ended in.
func resultOf(err error) string {
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
