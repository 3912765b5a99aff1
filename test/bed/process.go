package bed

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
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

// Process is the binary, running. It belongs to the goroutine of its test; Get, Terminate and the
// methods that read metrics are safe for concurrent use.
type Process struct {
	Clients string // the clients' address, once Bound is closed
	Control string // the backends' address, once Bound is closed
	Ops     string // the operators' address, once Bound is closed
	Hub     string // the hub's id, once Ready is closed

	Bound chan struct{} // closed when the ports are bound
	Ready chan struct{} // closed when clients may come
	Ended chan struct{} // closed when the log has ended

	command *exec.Cmd
	log     strings.Builder // owned by followLog until Ended is closed
	killed  bool
	asked   sync.Once // to end
}

// StartAlone runs a hub without peers and secrets on free ports until the test ends, and then
// checks that it stops properly. It returns when clients may come. It does not run `connhub dev`:
// that has etcd in its process, whose goroutines come and go.
func StartAlone(t *testing.T, flags ...string) *Process {
	t.Helper()
	p := Start(t, append([]string{
		"serve", "--single-hub", "--insecure-dev",
		"--listen-clients", "127.0.0.1:0", "--listen-control", "127.0.0.1:0",
		"--listen-ops", "127.0.0.1:0",
	}, flags...)...)
	p.Await(t, p.Ready)
	return p
}

// Start runs the binary until the test ends, and then checks that it stops as it should. It does
// not wait for the ports.
func Start(t *testing.T, args ...string) *Process {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{
		Bound: make(chan struct{}), Ready: make(chan struct{}), Ended: make(chan struct{}),
	}
	p.command = exec.CommandContext(context.Background(), path, args...)
	p.command.SysProcAttr = dieWithTests
	// The race detector waits for a second before it ends a process, for reports of goroutines that
	// nothing waits for any more.
	p.command.Env = append(os.Environ(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=50")
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stopWithTest(t) })
	go p.followLog(stderr)
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
			t.Fatalf("connhub ended before it was ready:\n%s", p.log.String())
		case <-patience.Turn():
			if patience.IsOver() {
				t.Fatal("connhub is not ready in time")
			}
		}
	}
}

// followLog reads the log, and derives the state of the process from it.
func (p *Process) followLog(stderr io.Reader) {
	defer close(p.Ended)
	// lines of any length: a Scanner would stop, and a full pipe block the process
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		p.log.Write(line)
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

// stopWithTest ends the process as an orchestrator does. The exit code is 66 if the race detector
// found a data race. An error in the log is a fault of the hub: no client or stranger should be
// able to cause it.
func (p *Process) stopWithTest(t *testing.T) {
	t.Helper()
	p.Terminate()
	limit := time.AfterFunc(StopLimit, func() { _ = p.command.Process.Kill() })
	defer limit.Stop()
	<-p.Ended
	if err := p.command.Wait(); err != nil && !p.killed {
		t.Errorf("connhub: %v", err)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("connhub logged %s", line)
		}
	}
	if t.Failed() {
		t.Logf("the log of %s, at its end:\n%s", p.Control, tailOf(p.log.String()))
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
