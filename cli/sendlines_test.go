package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/nodetest"
)

// readMessages reads a client's next messages in the background.
func readMessages(t *testing.T, conn *websocket.Conn, messages int) <-chan string {
	t.Helper()
	received := make(chan string, messages)
	go func() {
		defer close(received)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range messages {
			_, b, err := conn.Read(ctx)
			if err != nil {
				return
			}
			received <- string(b)
		}
	}()
	return received
}

func TestEachLineOfStandardInputIsAMessage(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	to := func(args ...string) []string {
		return append([]string{"send", "--addr=" + hub.Control, "--user=ann"}, args...)
	}
	for _, tt := range []struct {
		name, stdin string
		args        []string
		want        []string // messages that the client gets
		stdout      string
		stderr      string
		code        int
	}{
		{
			"lines, with an empty one and a last without an end", "one\n\ntwo\r\n three", to("-"),
			[]string{"one", "two", " three"},
			"✓ 3 lines sent as 3 messages: 3 written\n", "", terminal.ExitOK,
		},
		{
			"JSON", `{"a":1}` + "\n" + `{"a":` + "\n" + `[2] `, to("--json-payload", "-"),
			[]string{`{"a":1}`, `[2]`},
			"✓ 2 lines sent as 2 messages: 2 written\n✗ 1 line failed\n",
			"connhub: line 2: invalid argument: message.json: must be the text of one JSON value " +
				"(RFC 8259), as \"{\\\"score\\\":3}\"; is \"{\\\"a\\\":\" " +
				"(INVALID_FIELD)\nconnhub: 1 of 3 lines failed\n",
			terminal.ExitError,
		},
		{
			"what can't be sent", "a\n\xff\n" +
				strings.Repeat("x", 1<<20) + "\n" + strings.Repeat("y", 1<<20+1) + "\nb\n", to("-"),
			[]string{"a", strings.Repeat("x", 1<<20), "b"},
			"✓ 3 lines sent as 3 messages: 3 written\n✗ 2 lines failed\n",
			"connhub: line 2: this is not UTF-8 text; to send bytes: --binary\n" +
				"connhub: line 4: longer than a message may be: 1 MiB (1048576 bytes)\nconnhub: " +
				"2 of 5 lines failed\n", terminal.ExitError,
		},
		{"nothing", "\n\n", to("-"), nil, "○ no lines to send\n", "", terminal.ExitOK},
		{
			"to nobody", "a\nb\n", to(
				"-", "--user=bob", "--except-user=ann", "--detail",
			), nil, "○ 2 lines sent: no connection matched\n  no such user: bob\n", "",
			terminal.ExitOK,
		},
		{
			"by request ids, again", "1\n2\n", to("-", "--request-id=r"),
			[]string{"1", "2"},
			"✓ 2 lines sent as 2 messages: 2 written\n", "", terminal.ExitOK,
		},
		{
			"by request ids, again and one more", "1\n2\n3\n", to("-", "--request-id=r"),
			[]string{"3"},
			"✓ 3 lines sent as 3 messages: 3 written\n  ↺ 2 lines had been sent before (known " +
				"request id)\n", "", terminal.ExitOK,
		},
		{
			"none is good", "a\n", to("-", "-n", "Bad"), nil, "✗ 1 line failed\n",
			"connhub: line 1: invalid argument: namespace: must be 1 to 128 characters a-z, 0-9, " +
				"'_', '.', '-' and begin with a-z (INVALID_FIELD)\n" +
				"connhub: 1 of 1 line failed\n", terminal.ExitError,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// a long message is written as the client reads it
			received := readMessages(t, ann, len(tt.want))
			r := program.Run(t, tt.stdin, tt.args...)
			wanted := terminaltest.Result{Stdout: tt.stdout, Stderr: tt.stderr, Code: tt.code}
			if diff := cmp.Diff(wanted, r); diff != "" {
				t.Error(diff)
			}
			for _, want := range tt.want {
				if got := <-received; got != want {
					t.Errorf("got %.40q, want %.40q", got, want)
				}
			}
		})
	}
}

func TestEachLineHasAResultInJSON(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	testkit.DialClient(t, hub.Clients, "user=ann")
	r := program.Run(t, "1\n\n{\n\xff\n", "send", "--addr="+hub.Control,
		"--user=ann", "--json-payload", "--json", "-")
	type outcome struct {
		Line    int
		Receipt *struct {
			Matched, Written, Queued int
			RequestID                string
		}
		Error *struct {
			Code    int
			Message string
			Details []struct{ Reason string }
		}
	}
	have := map[int]outcome{}
	for text := range strings.Lines(r.Stdout) {
		var one outcome
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		have[one.Line] = one
	}
	if len(have) != 3 || have[1].Receipt.Written != 1 ||
		have[1].Error != nil || !strings.Contains(r.Stdout, `"queued":0`) {
		t.Errorf("results: %s", r.Stdout)
	}
	if e := have[3].Error; e == nil ||
		e.Code != 3 || len(e.Details) == 0 || e.Details[0].Reason != "INVALID_FIELD" {
		t.Errorf("line 3: %s", r.Stdout)
	}
	if e := have[4].Error; e == nil || e.Code != 3 || !strings.Contains(e.Message, "not UTF-8") {
		t.Errorf("line 4: %s", r.Stdout)
	}
	if r.Code != terminal.ExitError || r.Stderr != "connhub: 2 of 3 lines failed\n" {
		t.Errorf("exit %d, %q", r.Code, r.Stderr)
	}
}

// typing is a command whose input the test writes.
type typing struct {
	*io.PipeWriter

	stdout, stderr testkit.LockedBuffer
	interrupt      context.CancelFunc
	ended          chan int // its exit code
}

func typeTo(t *testing.T, args ...string) *typing {
	t.Helper()
	in, out := io.Pipe()
	c := &typing{PipeWriter: out, ended: make(chan int, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	c.interrupt = cancel
	go func() { c.ended <- program(ctx, args, terminal.New(in, &c.stdout, &c.stderr)) }()
	t.Cleanup(func() {
		cancel()
		_ = out.Close()
	})
	return c
}

func (c *typing) typed(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		t.Fatal(err)
	}
}

func (c *typing) exitCode(t *testing.T) int {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("it says %s%s", c.stdout.String(), c.stderr.String())
		}
	}()
	code, _ := testkit.Receive(t, "the command ends", c.ended)
	return code
}

func TestALineIsSentWhenItComesNotWhenTheInputEnds(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	c := typeTo(t, "send", "--addr="+hub.Control, "--user=ann", "-")
	for i := range 3 {
		c.typed(t, "line %d\n", i)
		if got, want := testkit.NextMessage(t, ann), fmt.Sprint("line ", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	_ = c.Close()
	if code := c.exitCode(t); code != terminal.ExitOK ||
		c.stdout.String() != "✓ 3 lines sent as 3 messages: 3 written\n" {
		t.Errorf("exit %d, %s%s", code, c.stdout.String(), c.stderr.String())
	}
}

func TestCtrlCStopsWithTheSummary(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	c := typeTo(t, "send", "--addr="+hub.Control, "--user=ann", "-")
	c.typed(t, "a\nb\n")
	_, _ = testkit.NextMessage(t, ann), testkit.NextMessage(t, ann)
	c.interrupt()
	if code := c.exitCode(t); code != terminal.ExitError ||
		c.stdout.String() != "✓ 2 lines sent as 2 "+
			"messages: 2 written\n" || c.stderr.String() != "connhub: interrupted\n" {
		t.Errorf("exit %d, %q, %q", code, c.stdout.String(), c.stderr.String())
	}
}

func TestCtrlCWaitsOnlyAMomentForResults(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	conn := testkit.DialControl(t, hub.Control)
	testkit.DialClient(t, hub.Clients, "user=slow")
	const enough = 24 // MiB: more than the kernel keeps on the way to a client
	nodetest.FillOutbox(t, conn, "slow", enough)
	c := typeTo(t, "send", "--addr="+hub.Control, "--user=slow",
		"--wait-timeout=1m", "--policy=drop-oldest", "-")
	c.typed(t, "a\n")
	meter := testkit.NewMeter()
	defer meter.Stop()
	start := time.Now()
	c.interrupt()
	if code, limit := c.exitCode(t),
		meter.Limit(20*time.Second); code != terminal.ExitError || time.Since(start) > limit {
		t.Errorf("exit %d after %v, want an end within %v", code, time.Since(start), limit)
	}
	if out := c.stdout.String(); out != "! 1 line without an answer\n" &&
		out != "○ no lines to send\n" {
		t.Errorf("summary %q", out)
	}
}

// cuttable passes connections on to an address, until they are cut.
type cuttable struct {
	net.Listener

	to   string
	mute atomic.Bool // passes on only the first bytes that the address sends

	mu    sync.Mutex
	conns []net.Conn
}

func newCuttable(t *testing.T, to string) *cuttable {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cuttable{Listener: l, to: to}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			var dialer net.Dialer
			out, err := dialer.DialContext(context.Background(), "tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			pass := func(to, from net.Conn) func() {
				return func() {
					_, _ = io.Copy(to, from)
					_ = to.Close()
				}
			}
			passing.Go(func() {
				if c.mute.Load() {
					first := make([]byte, 4096)
					n, _ := out.Read(first)
					_, _ = in.Write(first[:n])
					_, _ = io.Copy(io.Discard, out)
				}
				pass(in, out)()
			})
			passing.Go(pass(out, in))
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.cut()
		passing.Wait()
	})
	return c
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func TestLinesComeOnceAndInOrderThoughTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann&group=blue")
	between := newCuttable(t, hub.Control)
	c := typeTo(t, "send", "--addr="+between.Addr().String(),
		"--group=blue", "--wait=queued", "--policy=close", "-")
	const n, cuts = 3000, 5
	go func() {
		for i := range n {
			_, _ = fmt.Fprintln(c, i)
		}
		_ = c.Close()
	}()
	for i := range n {
		if got, want := testkit.NextMessage(t, ann), fmt.Sprint(i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if i%(n/cuts) == n/cuts/2 {
			between.cut()
		}
	}
	if code := c.exitCode(t); code != terminal.ExitOK || !strings.HasPrefix(
		c.stdout.String(), "✓ 3000 lines sent as 3000 messages: ",
	) {
		t.Errorf("exit %d, %s%s", code, c.stdout.String(), c.stderr.String())
	}
}

// The hub has taken the line, and its answer never came: it is sent again, and does not arrive
// twice.
func TestConnectionMayBreakBeforeTheFirstAnswer(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	between := newCuttable(t, hub.Control)
	between.mute.Store(true)
	c := typeTo(t, "send", "--addr="+between.Addr().String(), "--user=ann", "--wait=queued", "-")
	c.typed(t, "one\n")
	if got := testkit.NextMessage(t, ann); got != "one" {
		t.Errorf("got %q", got)
	}
	between.mute.Store(false)
	between.cut()
	c.typed(t, "two\n")
	if got := testkit.NextMessage(t, ann); got != "two" {
		t.Errorf("got %q", got)
	}
	_ = c.Close()
	if code := c.exitCode(t); code != terminal.ExitOK {
		t.Errorf("exit %d, %s%s", code, c.stdout.String(), c.stderr.String())
	}
}

func TestWhenAHubLeavesTheNextOneGetsTheRest(t *testing.T) {
	first := startAt(t, "127.0.0.1:0")
	ann := testkit.DialClient(t, first.Clients, "user=ann")
	c := typeTo(t, "send", "--addr="+first.Control, "--user=ann", "-")
	c.typed(t, "one\n")
	if got := testkit.NextMessage(t, ann); got != "one" {
		t.Errorf("got %q", got)
	}
	_ = ann.CloseNow() // it would not answer a close
	first.Stop(t)
	second := startAt(t, first.Control)
	ann = testkit.DialClient(t, second.Clients, "user=ann")
	c.typed(t, "two\n")
	if got := testkit.NextMessage(t, ann); got != "two" {
		t.Errorf("got %q", got)
	}
	_ = ann.CloseNow()
	_ = c.Close()
	if code := c.exitCode(t); code != terminal.ExitOK ||
		c.stdout.String() != "✓ 2 lines sent as 2 messages: 2 written\n" {
		t.Errorf("exit %d, %s%s", code, c.stdout.String(), c.stderr.String())
	}
}

func TestWithNothingToSendNoHubIsMissed(t *testing.T) {
	first := startAt(t, "127.0.0.1:0")
	ann := testkit.DialClient(t, first.Clients, "user=ann")
	to := []string{"send", "--addr=" + first.Control, "--user=ann", "--timeout=1s", "-"}
	goesOn, ends := typeTo(t, to...), typeTo(t, to...)
	for _, c := range []*typing{goesOn, ends} {
		c.typed(t, "a\n")
		_ = testkit.NextMessage(t, ann)
	}
	_ = ann.CloseNow() // it would not answer a close
	first.Stop(t)
	select { // longer than a hub may be away when there are lines
	case code := <-goesOn.ended:
		t.Fatalf("exit %d, %s", code, goesOn.stderr.String())
	case <-time.After(2 * time.Second):
	}
	_ = ends.Close()
	if code := ends.exitCode(t); code != terminal.ExitOK ||
		ends.stdout.String() != "✓ 1 line sent as 1 message: 1 written\n" {
		t.Errorf("input that ends without a hub: exit %d, %s%s",
			code, ends.stdout.String(), ends.stderr.String())
	}

	second := startAt(t, first.Control)
	ann = testkit.DialClient(t, second.Clients, "user=ann")
	goesOn.typed(t, "\nb\n")
	if got := testkit.NextMessage(t, ann); got != "b" {
		t.Errorf("got %q", got)
	}
	_ = ann.CloseNow()
	_ = goesOn.Close()
	if code := goesOn.exitCode(t); code != terminal.ExitOK ||
		goesOn.stdout.String() != "✓ 2 lines sent as 2 messages: 2 written\n" {
		t.Errorf("exit %d, %s%s", code, goesOn.stdout.String(), goesOn.stderr.String())
	}
}

func TestAConnectionMayBreakBeforeTheFirstLine(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	between := newCuttable(t, hub.Control)
	c := typeTo(t, "send", "--addr="+between.Addr().String(), "--user=ann", "-")
	streams := func(n string) func() bool {
		return func() bool {
			return strings.Contains(
				testkit.Get(t, "http://"+hub.Ops+"/metrics", nil).Body, "SendStream\"} "+n+"\n",
			)
		}
	}
	testkit.Eventually(t, "the stream is open", streams("1"))
	between.cut()
	testkit.Eventually(t, "the stream is over", streams("0"))
	c.typed(t, "a\n")
	if got := testkit.NextMessage(t, ann); got != "a" {
		t.Errorf("got %q", got)
	}
	_ = c.Close()
	if code := c.exitCode(t); code != terminal.ExitOK {
		t.Errorf("exit %d, %s%s", code, c.stdout.String(), c.stderr.String())
	}
}

// startAt runs a hub with its control port at an address.
func startAt(t *testing.T, control string) *nodetest.Hub {
	t.Helper()
	return nodetest.Start(t, func(p *node.Config) { p.ListenControl = control })
}

func TestWithoutAHubTheLinesThatAreLeftAreTold(t *testing.T) {
	hub := startAt(t, "127.0.0.1:0")
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	c := typeTo(t, "send", "--addr="+hub.Control, "--user=ann", "--timeout=1s", "-")
	c.typed(t, "one\n")
	_ = testkit.NextMessage(t, ann)
	_ = ann.CloseNow() // it would not answer a close
	hub.Stop(t)
	c.typed(t, "two\nthree\n")
	code := c.exitCode(t)
	if want := "✓ 1 line sent as 1 message: 1 written\n"; code != terminal.ExitError ||
		!strings.HasPrefix(c.stdout.String(), want) {
		t.Errorf("exit %d, %q", code, c.stdout.String())
	}
	if !strings.Contains(c.stderr.String(), "without an answer: can't reach "+hub.Control) {
		t.Errorf("stderr %q", c.stderr.String())
	}
	r := program.Run(t, "x\n", "send", "--addr="+hub.Control, "--user=ann", "-")
	if r.Code != terminal.ExitError || r.Stdout != "" || !strings.HasPrefix(
		r.Stderr, "connhub: can't reach "+hub.Control+": connection refused.",
	) {
		t.Errorf("no hub at all: %v", r)
	}
}

func TestLinesAreAddedUpInWords(t *testing.T) {
	var out strings.Builder
	one := func(sequence int64, r *controlv1.Receipt) *controlv1.StreamedResult {
		return &controlv1.StreamedResult{
			Sequence: sequence, Outcome: &controlv1.StreamedResult_Receipt{Receipt: r},
		}
	}
	l := &lineTally{wait: controlv1.Wait_WAIT_ACKED, unanswered: 2}
	for i, r := range []*controlv1.Receipt{
		{Matched: 1 << 30, Written: 1 << 30, NotAckable: 3},
		{Matched: 1 << 30, Written: 1 << 30},
		{Matched: 1 << 30, Acked: 1 << 30},
		{},
		{
			Matched: 5, Pending: 1, Queued: 1, QueuedDetached: 1,
			Duplicate: true, Dropped: []*controlv1.Dropped{
				{Reason: controlv1.DropReason_DROP_REASON_EXPIRED, Count: 1},
				{Reason: controlv1.DropReason_DROP_REASON_CLOSED, Count: 1},
			},
		},
		{
			Unmatched:       &controlv1.Unmatched{Users: []string{"ann"}},
			UnreachableHubs: []string{"abcdefgh"},
		},
	} {
		l.addResult(one(int64(i+1), r), &lineOutput{})
	}
	out.WriteString(terminaltest.Render(false, l.printTotals))
	testkit.CompareGolden(t, "lines.txt", out.String())
	testkit.CompareGolden(t, "lines_colour.txt", terminaltest.Render(true, l.printTotals))
}
