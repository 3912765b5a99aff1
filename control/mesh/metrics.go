package mesh

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/internal/config"
)

// waitBuckets reach from the round trip of a probe on a single machine to beyond the longest wait
// of a join. In seconds.
var waitBuckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .3, .4, .5, .6, 1, 2.5, 5, 10,
}

// metrics holds the mesh's instruments. A label is a call's kind or a typed reason, never an id.
type metrics struct {
	forwards   *prometheus.CounterVec
	executions *prometheus.CounterVec
	unknown    prometheus.Counter
	links      *prometheus.CounterVec
	dials      *prometheus.CounterVec
	joins      prometheus.Histogram
	probes     prometheus.Histogram

	// The series of sends, which are counted without a look-up.
	sends, floodedSends, executedSends prometheus.Counter
}

// newMetrics creates the instruments, and registers them unless r is nil.
func newMetrics(r prometheus.Registerer, m *Mesh) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	i := &metrics{
		forwards: counter("connhub_mesh_forwards_total",
			"Calls passed on to another hub, one for each hub, by call and by why: interest, "+
				"or flood where no filter lease was held.", "call", "why"),
		executions: counter("connhub_mesh_forwards_received_total",
			"Calls that other hubs passed on to this one.", "call"),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_mesh_outcomes_unknown_total",
			Help: "Calls passed on whose outcome was not known when the backend was answered.",
		}),
		links: counter("connhub_mesh_links_ended_total",
			"Links to other hubs that ended, by cause.", "cause"),
		dials: counter("connhub_mesh_dials_failed_total",
			"Dials of other hubs that failed, by the reason with which the hub refused, or none.",
			"reason"),
		joins: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "connhub_mesh_join_wait_seconds",
			Help:    "How long joins and new connections waited until every hub knew of them.",
			Buckets: waitBuckets,
		}),
		probes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "connhub_mesh_probe_seconds", Help: "Round trips of probes to other hubs.",
			Buckets: waitBuckets,
		}),
	}
	i.sends = i.forwards.WithLabelValues(kindSend, whyInterest)
	i.floodedSends = i.forwards.WithLabelValues(kindSend, whyFlood)
	i.executedSends = i.executions.WithLabelValues(kindSend)
	all := append(m.Moves.shell.Collectors(), i.forwards, i.executions, i.unknown, i.links,
		i.dials, i.joins, i.probes, &peerCollector{m})
	return i, config.Register(r, all...)
}

// The reasons for which a peer gets a call.
const (
	whyInterest = "interest"
	whyFlood    = "flood"
)

func (i *metrics) countForwarded(kind string, flood bool) {
	switch {
	case kind == kindSend && flood:
		i.floodedSends.Inc()
	case kind == kindSend:
		i.sends.Inc()
	case flood:
		i.forwards.WithLabelValues(kind, whyFlood).Inc()
	default:
		i.forwards.WithLabelValues(kind, whyInterest).Inc()
	}
}

func (i *metrics) countExecuted(f *peerv1.Forward) {
	if kind := KindOf(f); kind != kindSend {
		i.executions.WithLabelValues(kind).Inc()
		return
	}
	i.executedSends.Inc()
}

const (
	// kindSend is the kind of a send. The mesh knows it because sends are by far the most frequent
	// calls. TestTheKindOfASendIsItsField holds it.
	kindSend = "send"
	// kindOther is the kind of a call that only later versions know.
	kindOther = "other"
)

// The names of the call fields are the kinds of calls. A result's field has the same name; "status"
// is the field of an error.
var (
	calls   = (*peerv1.Forward)(nil).ProtoReflect().Descriptor().Oneofs().ByName("call")
	results = (*peerv1.ForwardResult)(nil).ProtoReflect().Descriptor().Oneofs().ByName("result")
)

// KindOf returns the kind of a call: the name of its field. It is "other" for a call that only
// later versions know. The mesh has no list of kinds.
func KindOf(f *peerv1.Forward) string {
	if _, ok := f.GetCall().(*peerv1.Forward_Send); ok {
		return kindSend
	}
	field := f.ProtoReflect().WhichOneof(calls)
	if field == nil {
		return kindOther
	}
	return string(field.Name())
}

func (i *metrics) countDialFailure(r peerv1.RefusalReason) {
	reason := "none"
	if r != peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		reason = strings.ToLower(nameOf(r))
	}
	i.dials.WithLabelValues(reason).Inc()
}

// linkCauses are the labels for the causes for which a link ended.
var linkCauses = []struct {
	err   error
	label string
}{
	{core.ErrSilent, "silent"},
	{core.ErrRedialed, "redialled"},
	{core.ErrViolation, "violation"},
	{errBacklog, "backlog"},
	{errClosing, "closing"},
	{errLaneLost, "lane_lost"},
}

func (i *metrics) countLinkEnd(cause error) {
	label := "hung_up"
	for _, c := range linkCauses {
		if errors.Is(cause, c.err) {
			label = c.label
			break
		}
	}
	i.links.WithLabelValues(label).Inc()
}

func (i *metrics) observeJoin(d time.Duration) { i.joins.Observe(d.Seconds()) }

func (i *metrics) observeProbe(d time.Duration) { i.probes.Observe(d.Seconds()) }

// peerCollector reports the peers at the time of a scrape.
type peerCollector struct{ mesh *Mesh }

var (
	peersDesc = prometheus.NewDesc("connhub_mesh_peers",
		"Other hubs by state: listed, dialled, linked, suspect, gone.", []string{"state"}, nil)
	leasesDesc = prometheus.NewDesc("connhub_mesh_leases",
		"Peers whose lease this hub holds: it sends them only calls for their clients.", nil, nil)
	interestDesc = prometheus.NewDesc("connhub_mesh_interest",
		"Users, groups and namespaces that this hub has told the others of.", nil, nil)
	tableDesc = prometheus.NewDesc("connhub_mesh_peer_interest",
		"Users, groups and namespaces that other hubs have told this one of.", nil, nil)
	tableBytesDesc = prometheus.NewDesc("connhub_mesh_peer_interest_bytes",
		"Memory for what other hubs have told this one of.", nil, nil)
)

// Describe implements prometheus.Collector.
func (p *peerCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		peersDesc, leasesDesc, interestDesc, tableDesc, tableBytesDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (p *peerCollector) Collect(out chan<- prometheus.Metric) {
	states := make(map[PeerState]int)
	leases, interest, bytes := 0, 0, 0
	for _, info := range p.mesh.Peers() {
		states[info.State]++
		if info.Lease {
			leases++
		}
		interest += info.Interest
		bytes += info.InterestBytes
	}
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	for s := PeerListed; s <= PeerGone; s++ {
		gauge(peersDesc, states[s], s.String())
	}
	gauge(leasesDesc, leases)
	gauge(interestDesc, p.mesh.InterestSize())
	gauge(tableDesc, interest)
	gauge(tableBytesDesc, bytes)
}
