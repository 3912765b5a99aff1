package edge

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/connhub/connhub/hub"
)

// metrics are the edge's instruments. A label is a typed reason or a protocol's name, never an id.
type metrics struct {
	accepted prometheus.Counter
	refused  [reasonEnd]prometheus.Counter
	failed   prometheus.Counter
	declined prometheus.Counter

	// TLS handshakes: in line for a core, and at work; ended well, and not.
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

// newMetrics registers the instruments with r; a nil r registers none.
func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	handshakes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_handshakes_total",
		Help: "Requests to connect, by result.",
	}, []string{"result"})
	writes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_writes_total",
		Help: "Writes to links: inline by who had something to send, or async by a goroutine of the link's own.",
	}, []string{"mode"})
	underWay := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_tls_handshakes",
		Help: "TLS handshakes of clients under way: waiting in line for a core, or working. Those that wait for the client are neither.",
	}, []string{"state"})
	ended := f.NewCounterVec(prometheus.CounterOpts{
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
		links: f.NewGauge(prometheus.GaugeOpts{
			Name: "connhub_links",
			Help: "Links to clients that are open or being closed.",
		}),
		pings: f.NewCounter(prometheus.CounterOpts{
			Name: "connhub_pings_sent_total",
			Help: "Pings sent to silent clients.",
		}),
		inline: writes.WithLabelValues("inline"),
		async:  writes.WithLabelValues("async"),
		messages: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_messages_total",
			Help: "Messages that clients sent.",
		}, []string{"protocol", "kind"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_message_bytes_total",
			Help: "Bytes of payload in messages that clients sent.",
		}, []string{"protocol", "kind"}),
		rejected: f.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_client_commands_rejected_total",
			Help: "Commands of clients that were not carried out, by reason; their connections went on.",
		}, []string{"protocol", "reason"}),
		uncompressed: f.NewCounter(prometheus.CounterOpts{
			Name: "connhub_deflate_input_bytes_total",
			Help: "Bytes of frames before they were compressed; each message counts once, to however many clients it goes.",
		}),
		compressed: f.NewCounter(prometheus.CounterOpts{
			Name: "connhub_deflate_output_bytes_total",
			Help: "Bytes of the same frames compressed.",
		}),
	}
	for r := reason(1); r < reasonEnd; r++ {
		m.refused[r] = handshakes.WithLabelValues(reasons[r].label)
	}
	return m
}

// spoken is a protocol with its counters at hand.
type spoken struct {
	Protocol

	deflated Protocol // for clients that want compression
	most     int64    // bytes of a message of a client, as it comes in

	text     received
	binary   received
	rejected rejectCounters
}

type received struct {
	messages prometheus.Counter
	bytes    prometheus.Counter
}

func (r *received) count(payload []byte) {
	r.messages.Inc()
	r.bytes.Add(float64(len(payload)))
}

// spoken makes a protocol one whose clients send payloads of at most maxPayload bytes.
func (m *metrics) spoken(p Protocol, maxPayload int64) *spoken {
	most := maxPayload
	if w, ok := p.(Wrapper); ok {
		p = w.WithMaxPayload(maxPayload)
		most = p.(Wrapper).MaxWire()
	}
	of := func(kind string) received {
		return received{m.messages.WithLabelValues(p.Name(), kind), m.bytes.WithLabelValues(p.Name(), kind)}
	}
	return &spoken{Protocol: p, deflated: deflate(p, m), most: most, text: of("text"), binary: of("binary"), rejected: newRejectCounters(m.rejected, p.Name())}
}

// receive counts a message and hands it to the protocol. A rejection is counted as well, and is no error of the link.
func (s *spoken) receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	if kind == hub.Text {
		s.text.count(payload)
	} else {
		s.binary.count(payload)
	}
	err := s.Receive(c, kind, payload)
	if rejection, ok := errors.AsType[*Rejection](err); ok {
		s.rejected.count(rejection)
		return nil
	}
	return err
}
