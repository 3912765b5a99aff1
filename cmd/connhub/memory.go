package main

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
	// requestIDBytes is the most bytes of a remembered request id.
	requestIDBytes = hub.RequestIDBytes
	// collectorShare is the percentage of a container's limit at which the collector works harder
	// (GOMEMLIMIT). The rest is for memory that Go does not count: the kernel's buffers and the
	// pages of the binary.
	collectorShare = 90
)

// memory is the memory limit of the process.
type memory struct {
	limit  int64  // bytes; math.MaxInt64: it is not known
	source string // of the limit, for people
}

// readMemory returns the lowest limit of the process: that of the machine, of its container, or of
// Go's collector (GOMEMLIMIT).
func readMemory() memory {
	m := memory{math.MaxInt64, "none"}
	lower := func(source string, limit uint64, err error) {
		// A limit that can't be read, or that does not exist, must not keep a hub from starting.
		if err == nil && limit > 0 && limit < uint64(m.limit) {
			m = memory{int64(limit), source} //nolint:gosec // it is below an int64
		}
	}
	limit, err := memlimit.FromSystem()
	lower("machine", limit, err)
	container, err := memlimit.FromCgroup()
	lower("cgroup", container, err)
	lower("GOMEMLIMIT", uint64(debug.SetMemoryLimit(-1)), nil) //nolint:gosec // it is not negative
	return m
}

// limitCollector sets the collector's limit below that of the container, unless GOMEMLIMIT is set.
func (m memory) limitCollector() {
	if m.source == "cgroup" && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(m.limit / 100 * collectorShare)
	}
}

// defaultBudgets returns the budgets for this limit: a share of it each, and at most those of a
// large machine.
func (m memory) defaultBudgets() budgets {
	h, e := hub.DefaultConfig(), edge.DefaultConfig()
	b := budgets{
		held:    min(h.HeldBytes, m.limit/heldShare),
		inbound: min(e.InboundBytes, m.limit/inboundShare),
		ids: max(
			min(h.RequestIDs, int(min(m.limit/idsShare/requestIDBytes, math.MaxInt32))), 1,
		),
	}
	b.namespaceHeld = hub.NamespaceShare(b.held)
	b.calls = max(control.MinCallBytes, min(control.DefaultConfig().CallBytes, m.limit/callShare))
	return b
}

// budgets are limits for each use of memory, in bytes, and for the number of request ids.
type budgets struct {
	held, namespaceHeld, inbound, calls int64
	ids                                 int
}

// totalBytes returns the sum of all budgets.
func (b budgets) totalBytes() int64 {
	return b.held + b.inbound + b.calls + int64(b.ids)*requestIDBytes
}

// checkBudgets refuses budgets that together are above the limit.
func (m memory) checkBudgets(b budgets) error {
	if b.totalBytes() <= m.limit {
		return nil
	}
	return fmt.Errorf("--held-bytes %v, --inbound-bytes %v, --call-bytes %v and --request-ids %d "+
		"of %d bytes each are %s together, above the memory limit of %s (%s)",
		byteSize(b.held), byteSize(b.inbound), byteSize(b.calls),
		b.ids, requestIDBytes, formatMebibytes(b.totalBytes()), formatMebibytes(m.limit), m.source)
}

// isTight reports whether budgets leave less than half of the limit for uses without a budget.
func (m memory) isTight(b budgets) bool { return b.totalBytes() > m.limit/2 }

// planBudgets sets the budgets to the values of flags, or else to a share of the memory limit. It
// writes them back to the settings too, for the log of the effective configuration.
func (s *settings) planBudgets(p *serverPlan) error {
	b := p.memory.defaultBudgets()
	if s.HeldBytes != nil {
		b.held = int64(*s.HeldBytes)
		b.namespaceHeld = hub.NamespaceShare(b.held)
	}
	if s.NamespaceHeldBytes != nil {
		b.namespaceHeld = int64(*s.NamespaceHeldBytes)
	}
	b.inbound = max(b.inbound, int64(s.MaxMessage)) // otherwise no message could be as large
	if s.InboundBytes != nil {
		b.inbound = int64(*s.InboundBytes)
	}
	if s.RequestIDs != nil {
		b.ids = *s.RequestIDs
	}
	if s.CallBytes != nil {
		b.calls = int64(*s.CallBytes)
	}
	s.CallBytes = new(byteSize(b.calls))
	s.HeldBytes, s.NamespaceHeldBytes = new(byteSize(b.held)), new(byteSize(b.namespaceHeld))
	s.InboundBytes, s.RequestIDs = new(byteSize(b.inbound)), new(b.ids)
	p.hub.HeldBytes, p.hub.NamespaceHeldBytes, p.hub.RequestIDs = b.held, b.namespaceHeld, b.ids
	p.edge.InboundBytes, p.callBytes = b.inbound, b.calls
	return p.memory.checkBudgets(b)
}

// plannedBudgets returns the budgets of the plan.
func (p *serverPlan) plannedBudgets() budgets {
	return budgets{
		p.hub.HeldBytes, p.hub.NamespaceHeldBytes,
		p.edge.InboundBytes, p.callBytes, p.hub.RequestIDs,
	}
}

// formatMebibytes formats a size for people.
func formatMebibytes(n int64) string {
	if n == math.MaxInt64 {
		return "none"
	}
	return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20))
}

// logMemory logs the limit and the budgets. The line is a WARN with a problem if the budgets leave
// too little for everything else.
func (p *serverPlan) logMemory(logger *slog.Logger) {
	b := p.plannedBudgets()
	attributes := []any{
		slog.String("limit", formatMebibytes(p.memory.limit)),
		slog.String("source", p.memory.source),
		slog.String("collector", formatMebibytes(debug.SetMemoryLimit(-1))),
		slog.String("held", formatMebibytes(b.held)),
		slog.String("namespace_held", formatMebibytes(b.namespaceHeld)),
		slog.String("inbound", formatMebibytes(b.inbound)),
		slog.String("calls", formatMebibytes(b.calls)),
		slog.Int("request_ids", b.ids), slog.String("budgets", formatMebibytes(b.totalBytes())),
	}
	if p.memory.isTight(b) {
		logger.Warn("memory", append(attributes, slog.String("problem",
			"the budgets together are above half of the limit: "+
				"connections, the collector and the kernel's buffers need the rest"))...)
		return
	}
	logger.Info("memory", attributes...)
}

// registerMetrics registers the budgets as metrics.
func (b budgets) registerMetrics(r prometheus.Registerer, m memory) {
	limit := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connhub_memory_limit_bytes", Help: "The lowest memory limit of the process: of " +
			"its container, of GOMEMLIMIT, of the machine.",
	})
	most := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_budget_limit_bytes",
		Help: "The most bytes that each use of memory may take.",
	}, []string{"use"})
	r.MustRegister(limit, most)
	limit.Set(float64(m.limit))
	most.WithLabelValues("held").Set(float64(b.held))
	most.WithLabelValues("namespace_held").Set(float64(b.namespaceHeld))
	most.WithLabelValues("inbound").Set(float64(b.inbound))
	most.WithLabelValues("calls").Set(float64(b.calls))
	most.WithLabelValues("request_ids").Set(float64(b.ids) * requestIDBytes)
}
