package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/auth"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// unknownMethod is the label of every method that is not served. A name that a caller invents must
// not become a series.
const unknownMethod = "unknown"

// secondsBuckets goes from a send within the process to the longest wait of a call.
var secondsBuckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5,
	1, 2.5, 5, 10, 30, 60, 300,
}

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
	sends    prometheus.Counter
	results  *prometheus.CounterVec
	resultOK prometheus.Counter // of results

	lost lostPublishes

	methods map[string]methodMetrics // by full method, constant after New
	unknown methodMetrics
}

// lostPublishes counts messages of clients that a hub did not get, or may not have got, by reason.
// A message counts once for each such hub.
type lostPublishes struct {
	all         *prometheus.CounterVec
	unreachable prometheus.Counter // there is no link to the hub
	// the line for the hub is full: calls come faster than it takes them
	slow prometheus.Counter
	// unknown: the hub failed, its link ended, or it was silent for 500 ms, before it confirmed the
	// message. It may have the message.
	unknown prometheus.Counter
}

func newLostPublishes() lostPublishes {
	all := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_client_publishes_lost_total",
		Help: "Messages of clients that could not be passed on to another hub, one for each " +
			"hub, by reason: unreachable, slow, or unknown, where it may have got the message, " +
			"but has not said so before it failed, its link ended or it fell silent.",
	}, []string{"reason"})
	return lostPublishes{
		all:         all,
		unreachable: all.WithLabelValues("unreachable"),
		slow:        all.WithLabelValues("slow"),
		unknown:     all.WithLabelValues("unknown"),
	}
}

// methodMetrics are the instruments that nearly every call of a method needs.
type methodMetrics struct {
	label   string
	ok      prometheus.Counter
	seconds prometheus.Observer
}

// newMetrics makes the instruments, with a series for each of the methods; r may be nil.
func newMetrics(
	r prometheus.Registerer, fullMethods []string, p *port, b *budget,
) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_requests_total",
			Help: "Calls of the gRPC API that have ended, by method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "connhub_grpc_request_seconds",
			Help:    "How long unary calls of the gRPC API took, what they waited for included.",
			Buckets: secondsBuckets,
		}, []string{"method"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "connhub_grpc_streams",
			Help: "Streams of the gRPC API that are open, by method.",
		}, []string{"method"}),
		sends: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_grpc_stream_sends_total",
			Help: "Sends that were taken from a SendStream.",
		}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_stream_results_total",
			Help: "Results of sends that were given to a SendStream, by status code.",
		}, []string{"code"}),
		lost:    newLostPublishes(),
		methods: make(map[string]methodMetrics, len(fullMethods)),
	}
	strangers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_grpc_strangers",
		Help: "Connections of the gRPC API that have shown no valid credential yet.",
	}, func() float64 { return float64(p.strangerCount()) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "connhub_grpc_call_bytes",
		Help: "What calls of backends hold of the bytes for calls: begun requests, " +
			"calls and sends in flight, results that were not read.",
	}, func() float64 { return float64(b.heldBytes()) })
	known := func(role auth.Role) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "connhub_grpc_connections",
			Help: "Connections of the gRPC API that have shown a valid credential, by its role.",

			ConstLabels: prometheus.Labels{"role": string(role)},
		}, func() float64 { return float64(p.knownCount(role)) })
	}
	for _, why := range strangerEnds {
		p.strangersClosed.WithLabelValues(string(why))
	}
	for _, how := range shareEnds {
		p.overShare.WithLabelValues(string(how))
	}
	if r != nil {
		for _, c := range []prometheus.Collector{
			m.requests, m.seconds, m.streams, m.sends, m.results, m.lost.all,
			strangers, p.strangersClosed,
			known(auth.RoleBackend), known(auth.RolePeer), p.overShare, held, b.refused,
		} {
			if err := r.Register(c); err != nil {
				return nil, err
			}
		}
	}
	m.resultOK = m.results.WithLabelValues(codes.OK.String())
	for _, method := range fullMethods {
		m.methods[method] = m.newMethodMetrics(method[1:])
	}
	m.unknown = m.newMethodMetrics(unknownMethod)
	return m, nil
}

func (m *metrics) newMethodMetrics(label string) methodMetrics {
	return methodMetrics{
		label:   label,
		ok:      m.requests.WithLabelValues(label, codes.OK.String()),
		seconds: m.seconds.WithLabelValues(label),
	}
}

// recordUnary records the end of a unary call.
func (m *metrics) recordUnary(fullMethod string, code codes.Code, took time.Duration) {
	m.metricsOf(fullMethod).seconds.Observe(took.Seconds())
	m.countEnded(fullMethod, code)
}

// countEnded counts the end of a call. The time of a stream says nothing, because its caller
// decides it.
func (m *metrics) countEnded(fullMethod string, code codes.Code) {
	method := m.metricsOf(fullMethod)
	if code == codes.OK {
		method.ok.Inc()
		return
	}
	m.requests.WithLabelValues(method.label, code.String()).Inc()
}

// countOpen counts a stream until closed is called.
func (m *metrics) countOpen(fullMethod string) (closed func()) {
	streams := m.streams.WithLabelValues(m.metricsOf(fullMethod).label)
	streams.Inc()
	return streams.Dec
}

// countResults counts results of a SendStream.
func (m *metrics) countResults(results []*controlv1.StreamedResult) {
	ok := 0
	for _, result := range results {
		if e := result.GetError(); e != nil {
			m.results.WithLabelValues(codes.Code(e.GetCode()).String()).Inc()
		} else {
			ok++
		}
	}
	m.resultOK.Add(float64(ok))
}

func (m *metrics) metricsOf(fullMethod string) methodMetrics {
	if method, ok := m.methods[fullMethod]; ok {
		return method
	}
	return m.unknown
}
