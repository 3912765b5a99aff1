package events

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

// metrics are the instruments of a Broker.
type metrics struct {
	given   map[eventsv1.EventKind]prometheus.Counter // constant after New
	dropped prometheus.Counter
}

// newMetrics makes the instruments; r may be nil.
func newMetrics(r prometheus.Registerer, b *Broker) (*metrics, error) {
	given := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_events_given_total", Help: "Events that were given to subscribers, one for each, by kind.",
	}, []string{"kind"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_events_dropped_total", Help: "Messages of clients that a subscriber has missed, by reason.",
	}, []string{"reason"})
	subscribers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_event_subscribers", Help: "Subscribers of events.",
	}, func() float64 { return float64(len(*b.subscribers.Load())) })

	m := &metrics{
		given:   map[eventsv1.EventKind]prometheus.Counter{},
		dropped: dropped.WithLabelValues(label(eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW.String(), "GAP_REASON_")),
	}
	for _, op := range Ops() {
		kind := kindOf(op)
		m.given[kind] = given.WithLabelValues(label(kind.String(), "EVENT_KIND_"))
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(given), r.Register(dropped), r.Register(subscribers))
}

func label(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// told counts what was given to a subscriber.
func (m *metrics) told(events []*event) {
	for _, e := range events {
		if e.dropped == 0 {
			m.given[e.kind].Inc()
		}
	}
}
