package lobby

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// Departure is the way in which a stranger leaves the lobby.
type Departure uint8

// The departures, in the order of departureNames.
const (
	Admitted Departure = iota // the stranger became a client
	Ended                     // the connection was closed, by the client or by the hub
	Replaced                  // the lobby was full and dropped the stranger for a newcomer

	departures
)

// departureNames are the values of the label "result".
var departureNames = [departures]string{
	Admitted: "admitted", Ended: "ended", Replaced: "replaced",
}

// Metrics holds the instruments of all lobbies of a process.
type Metrics struct {
	strangers    *prometheus.GaugeVec
	left         *prometheus.CounterVec
	acceptErrors *prometheus.CounterVec
}

// NewMetrics registers the instruments with r; a nil r registers none. It returns an error if r has
// them already.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := makeMetrics()
	if err := config.Register(r, m.strangers, m.left, m.acceptErrors); err != nil {
		return nil, fmt.Errorf("lobby metrics: %w", err)
	}
	return m, nil
}

// makeMetrics makes the instruments, and registers none.
func makeMetrics() *Metrics {
	return &Metrics{
		strangers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "connhub_strangers",
			Help: "Connections that were accepted and are neither a client's link " +
				"nor at their end, by port.",
		}, []string{"port"}),
		left: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_strangers_total",
			Help: "Connections that were accepted, by port and what became of them. " +
				"Replaced: dropped for a newer one.",
		}, []string{"port", "result"}),
		acceptErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_accept_errors_total",
			Help: "Errors of accept after which the hub tries again, by port.",
		}, []string{"port"}),
	}
}

// portMetrics holds the instruments of a port.
type portMetrics struct {
	strangers    prometheus.Gauge
	left         [departures]prometheus.Counter
	acceptErrors prometheus.Counter
}

// ofPort returns the instruments of the port with that name. m may be nil: then they are not
// registered.
func (m *Metrics) ofPort(name string) portMetrics {
	if m == nil {
		m = makeMetrics()
	}
	p := portMetrics{
		strangers:    m.strangers.WithLabelValues(name),
		acceptErrors: m.acceptErrors.WithLabelValues(name),
	}
	for d := range departures {
		p.left[d] = m.left.WithLabelValues(name, departureNames[d])
	}
	return p
}
