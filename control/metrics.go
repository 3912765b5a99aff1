package control

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/config"
)

// metrics are the instruments of sends and publishes. Those of calls are the port's.
type metrics struct {
	sends    prometheus.Counter
	results  *prometheus.CounterVec
	resultOK prometheus.Counter // of results

	lost lostPublishes
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

// newMetrics makes the instruments; r may be nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		sends: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_grpc_stream_sends_total",
			Help: "Sends that were taken from a SendStream.",
		}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_stream_results_total",
			Help: "Results of sends that were given to a SendStream, by status code.",
		}, []string{"code"}),
		lost: newLostPublishes(),
	}
	m.resultOK = m.results.WithLabelValues(codes.OK.String())
	return m, config.Register(r, m.sends, m.results, m.lost.all)
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
