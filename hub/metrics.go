package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/config"
)

// metrics are the hub's instruments. A label is a typed reason or a protocol's name, never an id.
type metrics struct {
	connections *prometheus.GaugeVec
	closes      [cause.End]prometheus.Counter
	drops       [cause.DropEnd]prometheus.Counter

	sends, matches, writes, acks prometheus.Counter
}

// newMetrics registers the instruments with r; a nil r registers none.
func newMetrics(r prometheus.Registerer, h *Hub) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "connhub_connections",
			Help: "Connections held, with and without a link.",
		}, []string{"protocol"}),
		sends: counter("connhub_sends_total", "Sends that were routed, duplicates not counted."),
		matches: counter("connhub_messages_matched_total",
			"Messages times connections that they matched."),
		writes: counter("connhub_messages_written_total",
			"Messages that a connection's link took whole."),
		acks: counter("connhub_messages_acked_total", "Messages that a client confirmed."),
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	closes := counters("connhub_connections_closed_total",
		"Connections that ended, by cause; moved: they went to a different hub.", "cause")
	for _, c := range cause.All() {
		m.closes[c] = closes.WithLabelValues(c.String())
	}
	drops := counters("connhub_messages_dropped_total",
		"Messages that a connection will not get, by reason.", "reason")
	for _, r := range cause.DropReasons() {
		m.drops[r] = drops.WithLabelValues(r.String())
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	return m, config.Register(r,
		m.connections, closes, drops, m.sends, m.matches, m.writes, m.acks,
		gauge("connhub_namespaces", "Namespaces that have a connection.", func() float64 {
			h.mu.RLock()
			defer h.mu.RUnlock()
			return float64(len(h.namespaces))
		}),
		gauge("connhub_held_bytes", "Bytes of messages that wait in outboxes, or for a client to "+
			"confirm them, each once, and of the lists that they wait in.",
			func() float64 { return float64(h.holdings.total.bytes.Load()) }),
		gauge("connhub_connections_detached",
			"Connections without a link that wait for their clients.",
			func() float64 { return float64(h.detached.len()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "connhub_request_ids_evicted_total",
			Help: "Request ids forgotten before their 5 minutes were over, " +
				"because there were too many.",
		}, func() float64 { return float64(h.requests.Evictions()) }),
	)
}

func (m *metrics) addMatched(connections int) {
	m.sends.Inc()
	m.matches.Add(float64(connections))
}

func (m *metrics) addWritten(n int) { m.writes.Add(float64(n)) }
func (m *metrics) addAcked(n int)   { m.acks.Add(float64(n)) }
func (m *metrics) addDropped(r cause.DropReason, n int) {
	if n > 0 {
		m.drops[r].Add(float64(n))
	}
}
