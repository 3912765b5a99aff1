package bed

import (
	"strconv"
	"strings"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
)

// Vitals are the resources that a process must not lose to any visitor.
type Vitals struct {
	Goroutines int // that run in the process
	Files      int // open files, sockets too
}

// Vitals asks for the goroutines' profile: while metrics are gathered there are more.
func (p *Process) Vitals(t *testing.T) Vitals {
	t.Helper()
	goroutines := readNumber(
		t, p.Get(t, "/debug/pprof/goroutine?debug=1"), "goroutine profile: total",
	)
	return Vitals{goroutines, readNumber(t, p.Get(t, "/metrics"), "process_open_fds")}
}

// CalmVitals returns the vitals when they are no more than want, or the last vitals if that does
// not happen.
func (p *Process) CalmVitals(t *testing.T, want Vitals) (v Vitals) {
	t.Helper()
	testkit.Holds(t, func() bool {
		v = p.Vitals(t)
		return v.Goroutines <= want.Goroutines && v.Files <= want.Files
	})
	return v
}

// collections is the number of garbage collections. After it, nothing is left that only a pool or a
// finalizer keeps: each of them takes two.
const collections = 4

// CollectHeap collects the garbage of the process, and returns the bytes of its heap that are in
// use.
func (p *Process) CollectHeap(t *testing.T) int {
	t.Helper()
	// The text form has the memory that was in use before the text was made.
	profile := ""
	for range collections {
		profile = p.Get(t, "/debug/pprof/heap?gc=1&debug=1")
	}
	return readNumber(t, profile, "# HeapAlloc =")
}

// readNumber finds the number behind a name at the begin of a line.
func readNumber(t *testing.T, text, name string) int {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// Sum asks for the metrics, and adds up the samples of a metric that have all the labels, each as
// name="value".
func (p *Process) Sum(t *testing.T, name string, labels ...string) int {
	t.Helper()
	return int(SumSamples(t, p.Get(t, "/metrics"), name, labels...))
}

// SumSamples is Sum for metrics that were read before, in the text format of Prometheus.
func SumSamples(t *testing.T, metrics, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
lines:
	for line := range strings.Lines(metrics) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(
			strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64,
		)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += value
	}
	return sum
}
