package port

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/config"
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

	methods map[string]methodMetrics // by full method, constant after New
	unknown methodMetrics
}

// methodMetrics are the instruments that nearly every call of a method needs.
type methodMetrics struct {
	label   string
	ok      prometheus.Counter
	seconds prometheus.Observer
}

// newMetrics makes the instruments, with a series for each of the methods; r may be nil.
func newMetrics(
	r prometheus.Registerer, fullMethods []string, p *gate, b *budget,
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
	if err := config.Register(r,
		m.requests, m.seconds, m.streams, strangers, p.strangersClosed,
		known(auth.RoleBackend), known(auth.RolePeer), p.overShare, held, b.refused,
	); err != nil {
		return nil, err
	}
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

func (m *metrics) metricsOf(fullMethod string) methodMetrics {
	if method, ok := m.methods[fullMethod]; ok {
		return method
	}
	return m.unknown
}
