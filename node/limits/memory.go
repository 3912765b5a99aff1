package limits

import (
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
)

// The default shares of the memory limit, as divisors. Together the budgets take seven sixteenths
// of the limit. Below 512 MiB they take more, because the calls have a minimum: half of the limit
// at 256 MiB, and all of it at 51 MiB. The rest is for connections, for garbage that is not
// collected yet, and for the kernel's buffers, which count in a container's limit.
const (
	heldShare    = 4
	inboundShare = 16
	idsShare     = 16
	callShare    = 16
)

const (
	// RequestIDBytes is the most bytes of a remembered request id.
	RequestIDBytes = hub.RequestIDBytes
	// collectorShare is the percentage of a container's limit at which the collector works harder
	// (GOMEMLIMIT). The rest is for memory that Go does not count: the kernel's buffers and the
	// pages of the binary.
	collectorShare = 90
)

// Memory is the memory limit of the process.
type Memory struct {
	Limit  int64  // bytes; math.MaxInt64: it is not known
	Source string // of the limit, for people
}

// ReadMemory returns the lowest limit of the process: that of the machine, of its container, or of
// Go's collector (GOMEMLIMIT).
func ReadMemory() Memory {
	m := Memory{math.MaxInt64, "none"}
	lower := func(source string, limit uint64, err error) {
		// A limit that can't be read, or that does not exist, must not keep a hub from starting.
		if err == nil && limit > 0 && limit < uint64(m.Limit) {
			m = Memory{int64(limit), source} //nolint:gosec // it is below an int64
		}
	}
	limit, err := memlimit.FromSystem()
	lower("machine", limit, err)
	container, err := memlimit.FromCgroup()
	lower("cgroup", container, err)
	lower("GOMEMLIMIT", uint64(debug.SetMemoryLimit(-1)), nil) //nolint:gosec // it is not negative
	return m
}

// LimitCollector sets the collector's limit below that of the container, unless GOMEMLIMIT is set.
func (m Memory) LimitCollector() {
	if m.Source == "cgroup" && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(m.Limit / 100 * collectorShare)
	}
}

// DefaultBudgets returns the budgets for this limit: a share of it each, and at most those of a
// large machine.
func (m Memory) DefaultBudgets() Budgets {
	h, e := hub.DefaultConfig(), edge.DefaultConfig()
	b := Budgets{
		Held:    min(h.HeldBytes, m.Limit/heldShare),
		Inbound: min(e.InboundBytes, m.Limit/inboundShare),
		RequestIDs: max(
			min(h.RequestIDs, int(min(m.Limit/idsShare/RequestIDBytes, math.MaxInt32))), 1,
		),
	}
	b.NamespaceHeld = hub.NamespaceShare(b.Held)
	b.Calls = max(control.MinCallBytes, min(control.DefaultConfig().CallBytes, m.Limit/callShare))
	return b
}

// Budgets are limits for each use of memory, in bytes, and for the number of request ids.
type Budgets struct {
	Held          int64 // of hub.Config
	NamespaceHeld int64 // of hub.Config
	Inbound       int64 // of edge.Config
	Calls         int64 // of control.Config
	RequestIDs    int   // of hub.Config, a number of ids
}

// TotalBytes returns the sum of all budgets.
func (b Budgets) TotalBytes() int64 {
	return b.Held + b.Inbound + b.Calls + int64(b.RequestIDs)*RequestIDBytes
}

// Fits reports whether the budgets together are within the limit.
func (m Memory) Fits(b Budgets) bool { return b.TotalBytes() <= m.Limit }

// isTight reports whether budgets leave less than half of the limit for uses without a budget.
func (m Memory) isTight(b Budgets) bool { return b.TotalBytes() > m.Limit/2 }

// FormatMebibytes formats a size for people.
func FormatMebibytes(n int64) string {
	if n == math.MaxInt64 {
		return "none"
	}
	return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20))
}

// LogBudgets logs the limit, the budgets and the floor of the heap. The line is a WARN with a
// problem if the budgets leave too little for everything else.
func (m Memory) LogBudgets(logger *slog.Logger, b Budgets, heap HeapConfig) {
	attributes := []any{
		slog.String("limit", FormatMebibytes(m.Limit)),
		slog.String("source", m.Source),
		slog.String("collector", FormatMebibytes(debug.SetMemoryLimit(-1))),
		slog.String("heap_floor", heap.describeFloor()),
		slog.String("held", FormatMebibytes(b.Held)),
		slog.String("namespace_held", FormatMebibytes(b.NamespaceHeld)),
		slog.String("inbound", FormatMebibytes(b.Inbound)),
		slog.String("calls", FormatMebibytes(b.Calls)),
		slog.Int("request_ids", b.RequestIDs),
		slog.String("budgets", FormatMebibytes(b.TotalBytes())),
	}
	if m.isTight(b) {
		logger.Warn("memory", append(attributes, slog.String("problem",
			"the budgets together are above half of the limit: "+
				"connections, the collector and the kernel's buffers need the rest"))...)
		return
	}
	logger.Info("memory", attributes...)
}

// RegisterMetrics registers the budgets as metrics.
func (b Budgets) RegisterMetrics(r prometheus.Registerer, m Memory) {
	limit := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connhub_memory_limit_bytes", Help: "The lowest memory limit of the process: of " +
			"its container, of GOMEMLIMIT, of the machine.",
	})
	most := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_budget_limit_bytes",
		Help: "The most bytes that each use of memory may take.",
	}, []string{"use"})
	r.MustRegister(limit, most)
	limit.Set(float64(m.Limit))
	most.WithLabelValues("held").Set(float64(b.Held))
	most.WithLabelValues("namespace_held").Set(float64(b.NamespaceHeld))
	most.WithLabelValues("inbound").Set(float64(b.Inbound))
	most.WithLabelValues("calls").Set(float64(b.Calls))
	most.WithLabelValues("request_ids").Set(float64(b.RequestIDs) * RequestIDBytes)
}
