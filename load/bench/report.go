package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/load"
)

// benchReport is the result of a bench: the object that --json prints. docs/bench.md explains each
// name.
type benchReport struct {
	Bench       string  `json:"bench"`
	Interrupted bool    `json:"interrupted"` // by Ctrl-C
	Connections int     `json:"connections"`
	Tokens      bool    `json:"tokens"` // each connection has a token
	Groups      int     `json:"groups_per_connection"`
	Lost        int     `json:"lost_connections"`
	Duration    float64 `json:"duration_seconds"`

	*benchSends
	*benchConnects
	*benchHolds

	Hub        *benchHub `json:"hub"`                   // null: unknown
	HubUnknown string    `json:"hub_unknown,omitempty"` // why

	measured bool
	lostWhy  string
	gaps     dial.Partial
}

// benchSends are the measurements of fanout and unicast.
type benchSends struct {
	benchShape

	PayloadBytes int `json:"payload_bytes"`

	Sends               int64   `json:"sends"` // with a receipt
	SendsPerSecond      float64 `json:"sends_per_second"`
	Unanswered          int64   `json:"sends_without_receipt"`
	Deliveries          int64   `json:"deliveries"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`

	Latency benchMillis `json:"latency_ms"`
	Receipt benchMillis `json:"receipt_ms"`

	Matched    int64 `json:"receipts_matched"`
	Written    int64 `json:"receipts_written"`
	Dropped    int64 `json:"receipts_dropped"`
	Missing    int64 `json:"missing"` // below 0: surplus deliveries
	Disordered int64 `json:"out_of_order"`

	// Unreachable are the hubs at which the outcome of a send is unknown.
	Unreachable []string `json:"unreachable_hubs,omitempty"`
}

// benchConnects are the measurements of connect.
type benchConnects struct {
	Concurrency       int         `json:"concurrency"`
	ConnectsPerSecond float64     `json:"connects_per_second"`
	Handshake         benchMillis `json:"handshake_ms"`
}

// benchHolds are the measurements of idle, beside the hub's figures.
type benchHolds struct {
	Pings int64 `json:"pings"`
}

// benchMillis is a latency in milliseconds.
type benchMillis struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"` // 99.9 %
	Max  float64 `json:"max"`
}

// benchHub is the use of the hub, or of several hubs together.
type benchHub struct {
	CPUSeconds  float64 `json:"cpu_seconds"`
	CPUCores    float64 `json:"cpu_cores"`
	PerDelivery float64 `json:"cpu_us_per_delivery,omitempty"`
	PerSend     float64 `json:"cpu_us_per_send,omitempty"`
	PerConnect  float64 `json:"cpu_us_per_connect,omitempty"`
	Memory      float64 `json:"memory_bytes_per_connection,omitempty"`
	Heap        float64 `json:"heap_bytes_per_connection,omitempty"`
}

func toMillis(l load.Latency) benchMillis {
	ms := func(d time.Duration) float64 {
		return roundFigure(float64(d) / float64(time.Millisecond))
	}
	return benchMillis{ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Max)}
}

// roundFigure keeps three digits behind the point: microseconds of milliseconds, and no noise of
// floats.
func roundFigure(x float64) float64 { return math.Round(x*1000) / 1000 }

func perSecond[N int | int64](n N, d time.Duration) float64 {
	return float64(n) / max(d.Seconds(), 1e-9)
}

// joinProblems joins the problems of the result to err.
func (r *benchReport) joinProblems(err error) error {
	problems := []error{err}
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	if r.Lost > 0 {
		add("%s lost, the first: %s", terminal.CountNoun(r.Lost, "connection"), r.lostWhy)
	}
	if s := r.benchSends; s != nil {
		switch {
		case s.Missing > 0:
			add("receipts tell of %s deliveries that no client counted", groupDigits(s.Missing))
		case s.Missing < 0 && s.Unanswered == 0 && len(r.gaps.GetUnreachableHubs()) == 0:
			add("clients counted %s deliveries that no receipt tells of", groupDigits(-s.Missing))
		}
		if s.Disordered > 0 {
			add("%s deliveries came out of order or twice", groupDigits(s.Disordered))
		}
	}
	return errors.Join(problems...)
}

// printReport prints the report, as JSON or for people.
func (b *bench) printReport() error {
	if b.flags.JSON {
		text, err := json.MarshalIndent(b.report, "", "  ")
		if err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		_, err = b.t.Stdout.Write(append(text, '\n'))
		return err
	}
	printBench(b.t, b.report)
	if b.report.gaps != nil {
		dial.PrintGaps(b.t, b.report.gaps)
	}
	return nil
}

// printBench prints a report for people.
func printBench(t *terminal.Terminal, r *benchReport) {
	mark := t.Out.GreenText("✓")
	switch {
	case r.joinProblems(nil) != nil:
		mark = t.Out.RedText("✗")
	case r.Interrupted:
		mark = t.Out.YellowText("!")
	}
	_, _ = fmt.Fprintf(t.Stdout, "%s %s\n", mark, r.headlineWords())
	t.PrintFields(r.summaryPairs())
	if r.benchSends != nil {
		t.PrintNote("latency: from when a message is due until its client has read it, by one " +
			"clock:")
		t.PrintNote("sender and clients are this process, beside the hub if that is on this " +
			"machine")
	}
}

// headlineWords names the bench and its size.
func (r *benchReport) headlineWords() string {
	parts := []string{r.Bench + ": " + groupDigits(r.Connections) + " connections"}
	if s := r.benchSends; s != nil {
		parts = append(parts, groupDigits(s.PayloadBytes)+" bytes")
	}
	parts = append(parts, strconv.FormatFloat(r.Duration, 'f', 1, 64)+" s")
	if r.Interrupted {
		parts = append(parts, "interrupted")
	}
	return strings.Join(parts, ", ")
}

// summaryPairs are the lines of the summary.
func (r *benchReport) summaryPairs() [][2]string {
	var pairs [][2]string
	add := func(name string, parts ...string) {
		pairs = append(pairs, [2]string{name, strings.Join(parts, " · ")})
	}
	if s := r.benchSends; s != nil {
		add("deliveries", groupDigits(s.Deliveries), ratePer(s.DeliveriesPerSecond))
		add("sends", groupDigits(s.Sends), ratePer(s.SendsPerSecond), s.paceWords())
		add("shape", s.shapeWords()...)
		add("latency", s.Latency.latencyWords()...)
		add("receipts", s.Receipt.latencyWords()...)
		add("checked", s.checkWords())
	}
	if r.benchSends == nil {
		add("clients", r.clientWords())
	}
	if c := r.benchConnects; c != nil {
		add("connects", ratePer(c.ConnectsPerSecond), fmt.Sprintf("%d at once", c.Concurrency))
		add("handshake", c.Handshake.latencyWords()...)
	}
	if h := r.benchHolds; h != nil {
		add("heartbeats", groupDigits(h.Pings)+" pings answered")
	}
	if r.Lost > 0 {
		add("lost", terminal.CountNoun(r.Lost, "connection")+": "+r.lostWhy)
	}
	if r.Hub == nil {
		add("hub", "CPU and memory unknown: "+r.HubUnknown)
		return pairs
	}
	return append(pairs, r.Hub.usagePairs()...)
}

// clientWords describe a connection.
func (r *benchReport) clientWords() string {
	what := "a user and " + terminal.CountNoun(r.Groups, "group") + " each"
	if r.Tokens {
		return "a token, " + what
	}
	return what + ", without a token"
}

// checkWords compare the counts of receipts and clients.
func (s *benchSends) checkWords() string {
	var parts []string
	switch {
	case s.Missing > 0:
		parts = append(parts, groupDigits(s.Missing)+" missing")
	case s.Missing < 0:
		parts = append(parts, groupDigits(-s.Missing)+" more than receipts tell")
	default:
		parts = append(parts, "all that receipts tell of has come")
	}
	if s.Dropped > 0 {
		parts = append(parts, groupDigits(s.Dropped)+" dropped")
	}
	if s.Unanswered > 0 {
		parts = append(parts, groupDigits(s.Unanswered)+" unanswered")
	}
	if s.Disordered > 0 {
		parts = append(parts, groupDigits(s.Disordered)+" out of order")
	}
	return strings.Join(parts, " · ")
}

func (m benchMillis) latencyWords() []string {
	return []string{
		"p50 " + millisWords(m.P50), "p99 " + millisWords(m.P99),
		"p99.9 " + millisWords(m.P999), "max " + millisWords(m.Max),
	}
}

func (h *benchHub) usagePairs() [][2]string {
	cpu := []string{fmt.Sprintf("%.2f cores", h.CPUCores)}
	for _, one := range []struct {
		micros float64
		what   string
	}{{h.PerDelivery, "delivery"}, {h.PerSend, "send"}, {h.PerConnect, "connection opened"}} {
		if one.micros > 0 && (one.what != "delivery" || h.PerSend != h.PerDelivery) {
			cpu = append(cpu, millisWords(one.micros/1000)+" per "+one.what)
		}
	}
	pairs := [][2]string{{"hub CPU", strings.Join(cpu, " · ")}}
	memory := func(parts ...string) {
		pairs = append(pairs, [2]string{"hub memory", strings.Join(parts, " · ")})
	}
	kib := func(bytes float64) string { return fmt.Sprintf("%.1f KiB", bytes/1024) }
	switch {
	case h.Memory > 0 && h.Heap > 0:
		memory(kib(h.Memory)+" per connection", kib(h.Heap)+" of it in use by Go")
	case h.Heap > 0:
		memory(kib(h.Heap)+" per connection in use by Go", "the rest was free before")
	}
	return pairs
}

// millisWords are milliseconds in the unit that suits them, with three digits.
func millisWords(ms float64) string {
	switch {
	case ms < 1:
		return threeDigits(ms*1000) + " µs"
	case ms < 1000:
		return threeDigits(ms) + " ms"
	default:
		return threeDigits(ms/1000) + " s"
	}
}

// threeDigits formats a number with about three digits.
func threeDigits(x float64) string {
	switch {
	case x < 10:
		return strconv.FormatFloat(x, 'f', 2, 64)
	case x < 100:
		return strconv.FormatFloat(x, 'f', 1, 64)
	default:
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
}

func ratePer(x float64) string {
	if x < 100 {
		return threeDigits(x) + "/s"
	}
	return groupDigits(int64(x)) + "/s"
}

// groupDigits formats a number with commas: "1,523,000".
func groupDigits[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

var _ dial.Partial = (*controlv1.Receipt)(nil)
