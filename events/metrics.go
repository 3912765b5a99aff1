package events

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// metrics are the instruments of a Broker.
type metrics struct {
	given   map[Kind]prometheus.Counter      // constant after New
	dropped map[GapReason]prometheus.Counter // constant after New
}

// newMetrics makes the instruments; r may be nil.
func newMetrics(r prometheus.Registerer, countSubscribers func() float64) (*metrics, error) {
	given := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_events_given_total",
		Help: "Events that were given to subscribers, one for each, by kind.",
	}, []string{"kind"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_events_dropped_total",
		Help: "Messages of clients that a subscriber has missed, by reason.",
	}, []string{"reason"})
	subscribers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_event_subscribers", Help: "Subscribers of events.",
	}, countSubscribers)

	m := &metrics{
		given: map[Kind]prometheus.Counter{},
		dropped: map[GapReason]prometheus.Counter{
			SubscriberSlow: dropped.WithLabelValues(SubscriberSlow.String()),
		},
	}
	for _, op := range Ops() {
		kind := kindOf(op)
		m.given[kind] = given.WithLabelValues(kind.String())
	}
	return m, config.Register(r, given, dropped, subscribers)
}

// countGiven counts the events of a batch that a subscriber has. Gaps are none.
func (m *metrics) countGiven(b Batch) {
	for _, e := range b.Events {
		if e.Gap == 0 {
			m.given[e.Kind].Inc()
		}
	}
}
