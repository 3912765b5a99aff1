package process

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// benchJSON runs a bench and returns its report, as a program reads it.
func benchJSON(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out := bed.Program.MustRun(t, append([]string{"bench"}, append(args, "--json")...)...)
	var report map[string]any
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return report
}

// number is a number in a report: "latency_ms.p50".
func number(t *testing.T, report map[string]any, path string) float64 {
	t.Helper()
	var at any = report
	for name := range strings.SplitSeq(path, ".") {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	n, ok := at.(float64)
	if !ok {
		t.Fatalf("no number %s in %v", path, report)
	}
	return n
}

func TestEachBenchRunsAgainstAHubInAProcess(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.InsecureArgs("--log-level=info")...)
	where := []string{
		"--addr=" + p.Control, "--url=ws://" + p.Clients,
		"--ops-url=http://" + p.Ops, "--connections=50",
	}
	sends := []string{
		"sends", "sends_per_second", "deliveries", "deliveries_per_second",
		"latency_ms.p50", "latency_ms.p99", "latency_ms.p999", "latency_ms.max",
		"receipt_ms.p50", "receipts_matched",
	}
	for name, tt := range map[string]struct {
		args     []string
		positive []string
		zero     []string
	}{
		"fanout": {[]string{"fanout", "--duration=300ms"}, sends, []string{
			"missing", "out_of_order", "receipts_dropped", "sends_without_receipt",
		}},
		"fanout, rate": {[]string{
			"fanout", "--duration=500ms", "--rate=50",
		}, append(sends, "target_sends_per_second"), []string{"missing", "out_of_order"}},
		"fanout, unary": {[]string{
			"fanout", "--duration=300ms", "--unary", "--in-flight=8", "--size=4000",
		}, sends, []string{"missing"}},
		"unicast, in another shape": {[]string{
			"unicast", "--duration=300ms", "--in-flight=20", "--batch=2", "--streams=3",
			"--backend-connections=2",
		}, append(sends, "streams", "backend_connections"), []string{"missing"}},
		"unicast, unary, connections": {[]string{
			"unicast", "--duration=300ms", "--unary", "--backend-connections=3",
		}, append(sends, "backend_connections"), []string{"missing", "streams"}},
		"unicast": {
			[]string{"unicast", "--duration=300ms"}, sends, []string{"missing", "out_of_order"},
		},
		"unicast, unary": {[]string{
			"unicast", "--duration=500ms", "--unary", "--rate=100",
		}, sends, []string{"missing"}},
		"connect": {[]string{"connect", "--concurrency=8", "--groups=1"}, []string{
			"connects_per_second", "handshake_ms.p50", "handshake_ms.p99", "handshake_ms.max",
		}, nil},
		"idle": {
			[]string{"idle", "--duration=1s"}, []string{"duration_seconds"}, []string{"pings"},
		},
		"fanout, largest": {[]string{
			"fanout", "--duration=300ms", "--size=1048576",
		}, sends, []string{"missing", "out_of_order"}},
	} {
		t.Run(name, func(t *testing.T) {
			report := benchJSON(t, slices.Concat(tt.args, where)...)
			for _, path := range append(tt.positive, "connections", "duration_seconds") {
				if n := number(t, report, path); n <= 0 {
					t.Errorf("%s is %v", path, n)
				}
			}
			for _, path := range append(tt.zero, "lost_connections") {
				if n := number(t, report, path); n != 0 {
					t.Errorf("%s is %v", path, n)
				}
			}
			if strings.HasPrefix(name, "fanout") &&
				number(t, report, "deliveries") != 50*number(t, report, "sends") {
				t.Errorf("%v", report)
			}
			if hub, ok := report["hub"].(map[string]any); !ok || hub["cpu_cores"] == nil {
				t.Errorf("nothing of the hub: %v", report)
			}
			if g := testkit.Get(t, "http://"+p.Ops+"/debug/invariants", nil); g.Code != 200 ||
				g.Body != "all hold (0 connections)\n" {
				t.Errorf("afterwards: %d %s", g.Code, g.Body)
			}
		})
	}
	// Tokens can't be had there, and the error for their absence names the remedy.
	r := bed.Program.Run(t, "", "bench", "connect", "--addr="+p.Control)
	if r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "NO_SIGNING_KEY") || !strings.Contains(r.Stderr, "--url") {
		t.Errorf("without --url: exit %d, %s", r.Code, r.Stderr)
	}
}

func TestBenchGetsItsURLsWithTokens(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.ServeArgs(t)...)
	report := benchJSON(t, "unicast", "--addr="+p.Control,
		"--url=ws://"+p.Clients, "--url=http://"+p.Clients+"/", "--ops-url=http://"+p.Ops,
		"--secret-file="+testkit.WriteFile(t, "secret", testkit.SomeSecret), "--connections=10",
		"--duration=300ms")
	if number(t, report, "sends") == 0 || number(t, report, "missing") != 0 {
		t.Errorf("%v", report)
	}
	r := bed.Program.Run(t, "", "bench", "connect", "--addr="+p.Control, "--url=ws://"+p.Clients)
	if r.Code != terminal.ExitError || !strings.Contains(r.Stderr, "CREDENTIALS_INVALID") {
		t.Errorf("without the secret: exit %d, %s", r.Code, r.Stderr)
	}
}
