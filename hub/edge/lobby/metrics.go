package lobby

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Departure says how a stranger left.
type Departure uint8

// How strangers leave.
const (
	Admitted Departure = iota // it became a client
	Ended                     // it was answered, it left, or its time was over
	Replaced                  // it kept the hub waiting when the lobby was full

	departures
)

var departureNames = [departures]string{Admitted: "admitted", Ended: "ended", Replaced: "replaced"}

// Metrics are the instruments of all lobbies of a process.
type Metrics struct {
	strangers    *prometheus.GaugeVec
	left         *prometheus.CounterVec
	acceptErrors *prometheus.CounterVec
}

// NewMetrics registers the instruments with r; a nil r registers none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	return &Metrics{
		strangers: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "connhub_strangers",
			Help: "Connections that were accepted and are neither a client's link nor at their end, by port.",
		}, []string{"port"}),
		left: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_strangers_total",
			Help: "Connections that were accepted, by port and what became of them. Replaced: dropped for a newer one.",
		}, []string{"port", "result"}),
		acceptErrors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_accept_errors_total",
			Help: "Errors of accept after which the hub tries again, by port.",
		}, []string{"port"}),
	}
}

// portMetrics are those of one port.
type portMetrics struct {
	strangers    prometheus.Gauge
	left         [departures]prometheus.Counter
	acceptErrors prometheus.Counter
}

func (m *Metrics) port(name string) portMetrics {
	if m == nil {
		m = NewMetrics(nil)
	}
	p := portMetrics{strangers: m.strangers.WithLabelValues(name), acceptErrors: m.acceptErrors.WithLabelValues(name)}
	for d := range departures {
		p.left[d] = m.left.WithLabelValues(name, departureNames[d])
	}
	return p
}
