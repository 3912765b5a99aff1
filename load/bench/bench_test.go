package bench

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

func TestBenchUsageErrorsExit2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"fanout --size 31", "--size 31: want 32 to 1048576"},
		{"fanout --size 1048577", "--size 1048577"},
		{"fanout --rate=-1", "--rate -1"},
		{"unicast --duration 0s", "--duration 0s: want more than 0"},
		{"unicast --in-flight 0", "--in-flight 0: want 1 to 1000"},
		{"fanout --in-flight 1001", "--in-flight 1001"},
		{"unicast --batch 0", "--batch 0: want 1 to 1000"},
		{"unicast --batch 1001", "--batch 1001: want 1 to 1000"},
		{"unicast --streams 0", "--streams 0: want 1 to 64, the number of --in-flight"},
		{"fanout --streams 2", "--streams 2: want 1 to 1, the number of --in-flight"},
		{"fanout --rate 1 --streams 1001", "--streams 1001: want 1 to 1000, the limit of sends"},
		{
			"unicast --backend-connections 2",
			"--backend-connections 2: want 1 to 1, the number of --streams",
		},
		{
			"unicast --unary --backend-connections 65",
			"--backend-connections 65: want 1 to 64, the number of --in-flight",
		},
		{"unicast --unary --backend-connections 0", "--backend-connections 0: want 1"},
		{"unicast --unary --streams 8", "--streams 8: has no effect with --unary"},
		{"unicast --unary --batch 8", "--batch 8: has no effect with --unary"},
		{"connect --groups 0", "--groups 0: want 1 to 128"},
		{"idle --groups 129", "--groups 129: want 1 to 128"},
		{"idle --duration 0s", "--duration 0s"},
		{"idle --connections 0", "--connections 0: want 1 or more"},
		{"connect --concurrency 0", "--concurrency 0: want 1 or more"},
		{"connect --url ftp://127.0.0.1", `--url "ftp://127.0.0.1": want ws://HOST:PORT`},
		{"connect --url 127.0.0.1:8080", `--url "127.0.0.1:8080": want ws://HOST:PORT`},
		{"connect --url ws://127.0.0.1/?user=a", "without user and query"},
		{"connect --url ws://u:hunter2@127.0.0.1", `--url "ws://xxxxx@127.0.0.1": want`},
		{"connect --url ws://u:hunter2@127.0.0.1/%zz", `--url "ws://xxxxx@127.0.0.1/%zz": want`},
	} {
		r := program.Run(t, "", append([]string{"bench"}, strings.Fields(tt.args)...)...)
		if r.Code != terminal.ExitUsage || !strings.Contains(r.Stderr, tt.want) || r.Stdout != "" {
			t.Errorf("bench %s: exit %d, %q; want exit 2, %q", tt.args, r.Code, r.Stderr, tt.want)
		}
	}
}

func TestOpsSecretFileThatCannotBeReadIsNamedByItsFlag(t *testing.T) {
	for path, want := range map[string]string{
		"/nowhere/secret":                   "--ops-secret-file: ",
		testkit.WriteFile(t, "empty", "\n"): "--ops-secret-file: no secret in ",
	} {
		o := newBenchOps(&benchFlags{OpsURL: []string{"http://127.0.0.1:1"}, OpsSecret: path})
		if !strings.HasPrefix(o.unknown, want) {
			t.Errorf("%s: %q, want %q", path, o.unknown, want)
		}
	}
}

// someReports returns reports of each bench, some with problems.
func someReports() []*benchReport {
	sends := benchSends{
		benchShape: benchShape{
			API: "SendStream", InFlight: 1, Batch: 1, Streams: 1, Connections: 1,
		},
		PayloadBytes: 128, Sends: 1523, SendsPerSecond: 152.3,
		Deliveries: 1_523_000, DeliveriesPerSecond: 152_300,
		Latency: benchMillis{6.123, 12.5, 19.2, 30.04},
		Receipt: benchMillis{0.41, 11.04, 870, 1290},
		Matched: 1_523_000, Written: 1_523_000,
	}
	bad := sends
	bad.benchShape = benchShape{API: "Send", Rate: 10, InFlight: 1000, Batch: 1, Connections: 8}
	bad.Missing, bad.Dropped, bad.Unanswered, bad.Disordered = 1234, 7, 1, 2
	more, spread := sends, sends
	more.Missing = -3
	spread.benchShape = benchShape{
		API: "SendStream", InFlight: 1000, Batch: 1000, Streams: 8, Connections: 8,
	}
	cpu := benchHub{CPUSeconds: 9.2, CPUCores: 0.92, PerDelivery: 6.04, PerSend: 6040}
	gaps := &controlv1.Receipt{}
	return []*benchReport{
		{
			Bench: "fanout", Connections: 1000, Duration: 10,
			benchSends: &sends, Hub: &cpu, gaps: gaps,
		},
		{Bench: "unicast", Connections: 1000, Duration: 10, benchSends: &spread, Hub: &benchHub{
			CPUCores: 1.5, PerDelivery: 21.2, PerSend: 21.2,
		}, gaps: gaps},
		{
			Bench: "fanout", Connections: 1000, Duration: 3.21, Interrupted: true,
			benchSends: &sends, HubUnknown: "no --ops-url was given", gaps: gaps,
		},
		{
			Bench: "fanout", Connections: 1000, Duration: 10, Lost: 2,
			lostWhy: "closed by the server: 1013 too slow", benchSends: &bad,
			HubUnknown: "http://127.0.0.1:9100: connection refused (--ops-url names " +
				"another address)", gaps: gaps,
		},
		{
			Bench: "fanout", Connections: 1000, Duration: 10,
			benchSends: &more, Hub: &cpu, gaps: gaps,
		},
		{
			Bench: "connect", Connections: 15_000, Duration: 1.5, Tokens: true, Groups: 1,
			benchConnects: &benchConnects{64, 10_000, benchMillis{4.5, 12, 33, 101}},
			Hub:           &benchHub{CPUCores: 0.85, PerConnect: 85},
		},
		{
			Bench: "idle", Connections: 15_000, Duration: 60, Groups: 2,
			benchHolds: &benchHolds{Pings: 30_000},
			Hub:        &benchHub{CPUCores: 0.02, Memory: 3900, Heap: 2100},
		},
		{
			Bench: "idle", Connections: 15_000, Duration: 60, Groups: 2,
			benchHolds: &benchHolds{}, Hub: &benchHub{Heap: 2100},
		},
	}
}

func TestBenchReportsFitATerminal(t *testing.T) {
	var out strings.Builder
	for _, r := range someReports() {
		out.WriteString(terminaltest.Render(false, func(t *terminal.Terminal) { printBench(t, r) }))
	}
	testkit.CompareGolden(t, "bench.txt", out.String())
	testkit.CompareGolden(t, "bench_colour.txt", terminaltest.Render(true, func(
		t *terminal.Terminal,
	) {
		printBench(t, someReports()[0])
	}))
	for line := range strings.Lines(out.String()) {
		// Why the hub's figures are unknown may be long.
		if n := len([]rune(line)) - 1; n > terminal.DefaultWidth &&
			!strings.Contains(line, "unknown") && !strings.HasPrefix(line, "lost") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if got := []rune(
		barLine("connecting", 7500, 15000, "7,500 of 15,000 connections"),
	); len(got) >= terminal.DefaultWidth {
		t.Errorf("%d columns: %s", len(got), string(got))
	}
}

func TestBenchVerdictsNameWhatIsWrong(t *testing.T) {
	for i, want := range []string{
		"", "", "",
		"2 connections lost, the first: closed by the server: 1013 too slow\nreceipts tell of " +
			"1,234 deliveries that no client counted\n2 deliveries came out of order or twice",
		"clients counted 3 deliveries that no receipt tells of", "", "", "",
	} {
		got := ""
		if err := someReports()[i].joinProblems(nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("report %d: %q, want %q", i, got, want)
		}
	}
}

func TestBenchNumbersAreReadable(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 123456: "123,456", -123: "-123",
	} {
		if got := groupDigits(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for ms, want := range map[float64]string{
		0: "0.00 µs", 0.0123: "12.3 µs", 0.5: "500 µs", 1: "1.00 ms", 999: "999 ms", 1500: "1.50 s",
	} {
		if got := millisWords(ms); got != want {
			t.Errorf("%v is %q, want %q", ms, got, want)
		}
	}
}

func TestPaceSaysWhenMessagesAreDue(t *testing.T) {
	p := pace{start: 100, end: 150, every: 20}
	for i, want := range []time.Duration{100, 120, 140} {
		if at, ok := p.nextDue(900); at != want || !ok {
			t.Errorf("message %d is due at %d, %v; want %d, however late it is", i, at, ok, want)
		}
		p.taken++
	}
	if _, ok := p.nextDue(100); ok {
		t.Error("a message after the end")
	}
	p.every = 0
	if at, ok := p.nextDue(149); at != 149 || !ok {
		t.Errorf("without a rate it is due at %d, %v", at, ok)
	}
	if _, ok := p.nextDue(150); ok {
		t.Error("without a rate: a message after the end")
	}
}

func TestOperationsOfAnotherHubAreNotTaken(t *testing.T) {
	t.Parallel()
	hub, other := nodetest.Start(t, nil), nodetest.Start(t, nil)
	for name, tt := range map[string]struct{ ops, want string }{
		"another hub": {
			"http://" + other.Ops, "saw 0 of 5 connections come: name all hubs with --ops-url",
		},
		"nothing":    {"http://127.0.0.1:1", "connection refused"},
		"no metrics": {"http://" + hub.Ops + "/debug/pprof", "404 Not Found"},
	} {
		r := program.Run(t, "", "bench", "idle", "--addr="+hub.Control,
			"--connections=5", "--duration=50ms", "--json", "--ops-url="+tt.ops)
		var report struct {
			Hub        *struct{}
			HubUnknown string `json:"hub_unknown"`
		}
		if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil ||
			r.Code != terminal.ExitOK {
			t.Fatalf("%s: exit %d, %v, %s%s", name, r.Code, err, r.Stdout, r.Stderr)
		}
		if report.Hub != nil || !strings.Contains(report.HubUnknown, tt.want) {
			t.Errorf("%s: %+v", name, report)
		}
	}
}

func TestBenchWithoutAHubSaysSo(t *testing.T) {
	t.Parallel()
	r := program.Run(t, "", "bench", "fanout", "--addr=127.0.0.1:1", "--connections=5")
	if r.Code != terminal.ExitError || !strings.Contains(
		r.Stderr, "can't reach 127.0.0.1:1: connection refused",
	) || r.Stdout != "" {
		t.Errorf("exit %d, %q", r.Code, r.Stderr)
	}
	hub := nodetest.Start(t, nil)
	r = program.Run(t, "", "bench", "connect", "--addr="+hub.Control,
		"--connections=5", "--url=ws://127.0.0.1:1")
	if r.Code != terminal.ExitError || !strings.Contains(
		r.Stderr, "of 5: dial tcp 127.0.0.1:1: connect: connection refused",
	) || r.Stdout != "" {
		t.Errorf("exit %d, %q", r.Code, r.Stderr)
	}
}

func TestInterruptedBenchTellsWhatItMeasuredAndLeavesNothing(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	var stdout, stderr testkit.LockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- program(ctx, []string{
			"bench", "fanout",
			"--addr=" + hub.Control, "--connections=5", "--duration=1h", "--rate=200", "--json",
		},
			terminal.New(strings.NewReader(""), &stdout, &stderr))
	}()
	sends := func() bool {
		return strings.Contains(
			testkit.Get(t, "http://"+hub.Ops+"/metrics", nil).Body,
			"connhub_messages_written_total 1",
		)
	}
	pollUntil(10*time.Second, sends) // several: each is written five times
	cancel()
	if code := <-ended; code != terminal.ExitError ||
		!strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
	var report benchReport
	report.benchSends, report.benchConnects, report.benchHolds = &benchSends{},
		&benchConnects{}, &benchHolds{}
	if err := json.Unmarshal([]byte(stdout.String()), &report); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if !report.Interrupted || report.Sends == 0 ||
		report.Deliveries != 5*report.Sends || report.Missing != 0 || report.Unanswered != 0 {
		t.Errorf("%s", stdout.String())
	}
	if out := program.MustRun(
		t, "connections", "--addr="+hub.Control, "--json",
	); strings.Contains(out, `"id"`) {
		t.Errorf("connections are left: %s", out)
	}
	if out := program.MustRun(
		t, "groups", "--addr="+hub.Control, "--json",
	); strings.Contains(out, `"name"`) {
		t.Errorf("groups are left: %s", out)
	}
}
