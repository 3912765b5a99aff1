package bed

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/connhub/connhub/internal/testkit"
)

// StopLimit is twice the time that the binary promises for SIGTERM, for a busy machine.
const StopLimit = 20 * time.Second

// Process is the binary, running. It belongs to the goroutine of its test; Get, Terminate, Log,
// Output and the methods that read metrics are safe for concurrent use.
type Process struct {
	Clients string // the clients' address, once Bound is closed
	Control string // the backends' address, once Bound is closed
	Ops     string // the operators' address, once Bound is closed
	Hub     string // the hub's id, once Ready is closed

	Bound chan struct{} // closed when the ports are bound
	Ready chan struct{} // closed when clients may come
	Ended chan struct{} // closed when the process has ended

	Log    *testkit.LockedBuffer // the lines of stderr
	Output *testkit.LockedBuffer // the text of stdout

	command  *exec.Cmd
	err      error     // of the process, once Ended is closed
	killed   bool      // by Kill
	judged   bool      // the test knows the exit code
	expected []string  // messages of errors in the log that the test causes
	asked    sync.Once // to end
}

// StartAlone runs a hub without peers and secrets on free ports until the test ends, and then
// checks that it stops properly. It returns when clients may come. It does not run `connhub dev`:
// that has etcd in its process, whose goroutines come and go.
func StartAlone(t *testing.T, flags ...string) *Process {
	t.Helper()
	return StartReady(t, InsecureArgs(flags...)...)
}

// StartReady is Start of a hub. It returns when clients may come.
func StartReady(t *testing.T, args ...string) *Process {
	t.Helper()
	p := Start(t, args...)
	p.Await(t, p.Ready)
	return p
}

// StartBound is Start of a hub. It returns when the ports are bound.
func StartBound(t *testing.T, args ...string) *Process {
	t.Helper()
	p := Start(t, args...)
	p.Await(t, p.Bound)
	return p
}

// Start runs the binary until the test ends, and then checks that it stops as it should. It does
// not wait for the ports.
func Start(t *testing.T, args ...string) *Process {
	t.Helper()
	return StartCommand(t, Command(t, args...))
}

// StartCommand is Start for a Command or a Shell, which the test may have changed.
func StartCommand(t *testing.T, command *exec.Cmd) *Process {
	t.Helper()
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	return StartFollowed(t, command, stderr)
}

// StartFollowed is StartCommand for a command with a stderr that the test has set. Its lines must
// come out of log, as far as the process is to follow it.
func StartFollowed(t *testing.T, command *exec.Cmd, log io.Reader) *Process {
	t.Helper()
	p := &Process{
		Bound: make(chan struct{}), Ready: make(chan struct{}), Ended: make(chan struct{}),
		Log: &testkit.LockedBuffer{}, Output: &testkit.LockedBuffer{}, command: command,
	}
	if command.Stdout == nil {
		command.Stdout = p.Output
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stopWithTest(t) })
	go p.awaitEnd(log)
	return p
}

// Await waits until the process has come to be Bound or Ready.
func (p *Process) Await(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	patience := testkit.NewPatience()
	defer patience.Stop()
	for {
		select {
		case <-reached:
			return
		case <-p.Ended:
			t.Fatalf("connhub ended before it was ready:\n%s", p.Log)
		case <-patience.Turn():
			if patience.IsOver() {
				t.Fatal("connhub is not ready in time")
			}
		}
	}
}

// awaitEnd follows the log, and then waits for the process.
func (p *Process) awaitEnd(log io.Reader) {
	p.followLog(log)
	p.err = p.command.Wait()
	close(p.Ended)
}

// followLog reads the log until its end, and derives the state of the process from it.
func (p *Process) followLog(log io.Reader) {
	// lines of any length: a Scanner would stop, and a full pipe block the process
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		_, _ = p.Log.Write(line)
		if err != nil {
			return
		}
		var r struct{ Msg, Clients, Control, Ops, Hub string }
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		switch {
		case r.Msg == "starting" && p.Control == "":
			p.Clients, p.Control, p.Ops = r.Clients, r.Control, r.Ops
			close(p.Bound)
		case r.Msg == "ready" && p.Hub == "":
			p.Hub = r.Hub
			close(p.Ready)
		}
	}
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// NewMeter measures how this machine holds up the process, and the tests. The caller must Stop it.
func (p *Process) NewMeter() *testkit.Meter { return testkit.NewMeter(p.PID()) }

// ExitCode waits until the process has ended, which it promises to do within limit. The test judges
// the code.
func (p *Process) ExitCode(t *testing.T, limit time.Duration) int {
	t.Helper()
	meter := p.NewMeter()
	defer meter.Stop()
	return p.ExitCodeWithin(t, meter, limit)
}

// ExitCodeWithin is ExitCode for a limit that began with the meter.
func (p *Process) ExitCodeWithin(t *testing.T, m *testkit.Meter, limit time.Duration) int {
	t.Helper()
	if !m.Within(limit, p.Ended) {
		t.Fatalf("still running, want an end within %v:\n%s", limit, p.Log)
	}
	p.judged = true
	return p.command.ProcessState.ExitCode()
}

// Kill ends the process without a word. It returns when the process has ended.
func (p *Process) Kill(t *testing.T) {
	t.Helper()
	p.killed = true
	p.Signal(t, syscall.SIGKILL)
	<-p.Ended
}

// Signal stops or continues the process, or worse.
func (p *Process) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Continue continues a process that is stopped, if it still runs.
func (p *Process) Continue() { _ = p.command.Process.Signal(syscall.SIGCONT) }

// Terminate asks the process to end, once: asked twice it drops everything.
func (p *Process) Terminate() {
	p.asked.Do(func() {
		p.Continue()
		_ = p.command.Process.Signal(syscall.SIGTERM)
	})
}

// ExpectErrors allows errors with these messages in the log: the test causes them.
func (p *Process) ExpectErrors(messages ...string) { p.expected = append(p.expected, messages...) }

// mayLog reports whether a line of the log is no error, or an error that the test expects.
func (p *Process) mayLog(line string) bool {
	return !strings.Contains(line, `"level":"ERROR"`) ||
		slices.ContainsFunc(p.expected, func(message string) bool {
			return strings.Contains(line, `"msg":"`+message)
		})
}

// stopWithTest ends the process as an orchestrator does. Unless the test has judged the exit code,
// it must be 0; it is 66 if the race detector found a data race. An error in the log of a hub that
// does not fail is a fault of the hub: no client or stranger should be able to cause it.
func (p *Process) stopWithTest(t *testing.T) {
	t.Helper()
	p.Terminate()
	limit := time.AfterFunc(StopLimit, func() { _ = p.command.Process.Kill() })
	defer limit.Stop()
	<-p.Ended
	if p.err != nil && !p.killed && !p.judged {
		t.Errorf("connhub: %v", p.err)
	}
	log, fails := p.Log.String(), p.err != nil && p.judged
	testkit.CheckLog(t, log)
	for line := range strings.Lines(log) {
		if !fails && !p.mayLog(line) {
			t.Errorf("connhub logged %s", line)
		}
	}
	if t.Failed() {
		t.Logf("the log of %s, at its end:\n%s", p.Control, tailOf(log))
	}
}

// tailOf returns as much of a log as a person reads.
func tailOf(log string) string {
	const most = 100
	var lines []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"msg":"connection closed"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

// Get asks the operations port, on a connection of its own that is gone when Get returns. The
// answer must be 200.
func (p *Process) Get(t *testing.T, path string) string {
	t.Helper()
	code, body := p.Ask(t, path)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", path, code, body)
	}
	return body
}

// Ask is Get for answers of any status.
func (p *Process) Ask(t *testing.T, path string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(
		t.Context(), http.MethodGet, "http://"+p.Ops+path, http.NoBody,
	)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: CallLimit}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("GET %s: %s, %v\n%s", path, response.Status, err, content)
	}
	return response.StatusCode, string(content)
}

// DialControl opens a backend's connection to a control address until the test ends.
func DialControl(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(
		address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Report(t, conn.Close()) })
	return conn
}
