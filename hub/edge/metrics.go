package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

// metrics are the edge's instruments. A label is a typed reason or a protocol's name, never an id.
type metrics struct {
	accepted prometheus.Counter
	refused  [reasonEnd]prometheus.Counter
	failed   prometheus.Counter
	declined prometheus.Counter

	// TLS handshakes that wait in line for a core, and that have a core. TLS handshakes that were
	// done, and that failed.
	tlsWaiting, tlsWorking prometheus.Gauge
	tlsDone, tlsFailed     prometheus.Counter

	links  prometheus.Gauge
	pings  prometheus.Counter
	inline prometheus.Counter
	async  prometheus.Counter

	messages *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	rejected *prometheus.CounterVec

	uncompressed prometheus.Counter
	compressed   prometheus.Counter
}

// newMetrics registers the instruments with r. A nil r registers none.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	handshakes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_handshakes_total",
		Help: "Requests to connect, by result.",
	}, []string{"result"})
	writes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_writes_total",
		Help: "Writes to links: inline by the sending goroutine, or async by the link's own.",
	}, []string{"mode"})
	underWay := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_tls_handshakes",
		Help: "TLS handshakes of clients under way: waiting in line for a core, or working. " +
			"Those that wait for the client are neither.",
	}, []string{"state"})
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_tls_handshakes_total",
		Help: "TLS handshakes of clients that have ended, by result.",
	}, []string{"result"})
	m := &metrics{
		tlsWaiting: underWay.WithLabelValues("waiting"),
		tlsWorking: underWay.WithLabelValues("working"),
		tlsDone:    ended.WithLabelValues("done"),
		tlsFailed:  ended.WithLabelValues("failed"),

		accepted: handshakes.WithLabelValues("accepted"),
		failed:   handshakes.WithLabelValues("upgrade_failed"),
		declined: handshakes.WithLabelValues("resume_declined"),
		links: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_links",
			Help: "Links to clients that are open or being closed.",
		}),
		pings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_pings_sent_total",
			Help: "Pings sent to silent clients.",
		}),
		inline: writes.WithLabelValues("inline"),
		async:  writes.WithLabelValues("async"),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_messages_total",
			Help: "Messages that clients sent.",
		}, []string{"protocol", "kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_message_bytes_total",
			Help: "Bytes of payload in messages that clients sent.",
		}, []string{"protocol", "kind"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_commands_rejected_total",
			Help: "Commands of clients that were not carried out, by reason; their connections " +
				"went on.",
		}, []string{"protocol", "reason"}),
		uncompressed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_deflate_input_bytes_total",
			Help: "Bytes of frames before they were compressed; each message counts once, to " +
				"however many clients it goes.",
		}),
		compressed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_deflate_output_bytes_total",
			Help: "Bytes of the same frames compressed.",
		}),
	}
	for r := reason(1); r < reasonEnd; r++ {
		m.refused[r] = handshakes.WithLabelValues(r.metricLabel())
	}
	return m, config.Register(r, handshakes, underWay, ended, m.links, m.pings, writes,
		m.messages, m.bytes, m.rejected, m.uncompressed, m.compressed)
}

// messageCounters count the messages of clients of a protocol and a kind.
type messageCounters struct {
	messages prometheus.Counter
	bytes    prometheus.Counter
}

func (r *messageCounters) countMessage(payload []byte) {
	r.messages.Inc()
	r.bytes.Add(float64(len(payload)))
}

// countDeflated counts a compressed message, by its bytes before and after.
func (m *metrics) countDeflated(plain, compressed int) {
	m.uncompressed.Add(float64(plain))
	m.compressed.Add(float64(compressed))
}
