package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

const (
	// stopLimit is twice the time that the binary promises for SIGTERM, for a busy machine.
	stopLimit = 20 * time.Second
)

// binaryDir is where tests put the programs that they build; TestMain makes and removes it.
var binaryDir string

// buildBinary builds connhub, once for all tests.
var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "connhub")
	build := exec.Command("go", append([]string{"build", noDebugger, "-o", path}, raceFlags...)...)
	build.Args = append(build.Args, "github.com/connhub/connhub/cmd/connhub")
	return path, runBuild(build)
})

// noDebugger leaves out tables that only a debugger reads: the link takes half the time.
const noDebugger = "-ldflags=-s -w"

func runBuild(build *exec.Cmd) error {
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build.Args, err, output)
	}
	return nil
}

// process is the binary, running.
type process struct {
	Clients, Control, Ops string // addresses, when it is bound
	Hub                   string // its id, when it is ready

	command *exec.Cmd
	bound   chan struct{} // closed when the ports are
	ready   chan struct{} // closed when clients may come
	logged  chan struct{} // closed when the log has ended
	log     strings.Builder
	killed  bool
	asked   sync.Once // to end
}

// startAlone runs a hub without peers and secrets on free ports until the test ends, and then
// checks that it stops properly. It does not run `connhub dev`: that has etcd in its process, whose
// goroutines come and go.
func startAlone(t *testing.T, flags ...string) *process {
	t.Helper()
	p := start(t, append([]string{
		"serve", "--single-hub", "--insecure-dev",
		"--listen-clients", "127.0.0.1:0", "--listen-control", "127.0.0.1:0",
		"--listen-ops", "127.0.0.1:0",
	}, flags...)...)
	p.await(t, p.ready)
	return p
}

// start runs the binary until the test ends, and then checks that it stops as it should.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		bound: make(chan struct{}), ready: make(chan struct{}), logged: make(chan struct{}),
	}
	p.command = exec.Command(path, args...)
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
	t.Cleanup(func() { p.stop(t) })
	go p.follow(stderr)
	return p
}

// await waits until the process has come to be bound or ready.
func (p *process) await(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	patience := testkit.NewPatience()
	defer patience.Stop()
	for {
		select {
		case <-reached:
			return
		case <-p.logged:
			t.Fatalf("connhub ended before it was ready:\n%s", p.log.String())
		case <-patience.Turn():
			if patience.IsOver() {
				t.Fatal("connhub is not ready in time")
			}
		}
	}
}

// follow reads the log, and derives the state of the process from it.
func (p *process) follow(stderr io.Reader) {
	defer close(p.logged)
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
			close(p.bound)
		case r.Msg == "ready" && p.Hub == "":
			p.Hub = r.Hub
			close(p.ready)
		}
	}
}

// meter measures how this machine holds up the process, and the tests.
func (p *process) meter() *testkit.Meter { return testkit.NewMeter(p.command.Process.Pid) }

// kill ends the process without a word.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.killed = true
	p.signal(t, syscall.SIGKILL)
	<-p.logged
}

// signal stops or continues the process, or worse.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// terminate asks the process to end, once: asked twice it drops everything.
func (p *process) terminate() {
	p.asked.Do(func() {
		_ = p.command.Process.Signal(syscall.SIGCONT)
		_ = p.command.Process.Signal(syscall.SIGTERM)
	})
}

// stop ends the process as an orchestrator does. The exit code is 66 if the race detector found a
// data race. An error in the log is a fault of the hub: no client or stranger should be able to
// cause it.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.terminate()
	limit := time.AfterFunc(stopLimit, func() { _ = p.command.Process.Kill() })
	defer limit.Stop()
	<-p.logged
	if err := p.command.Wait(); err != nil && !p.killed {
		t.Errorf("connhub: %v", err)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("connhub logged %s", line)
		}
	}
	if t.Failed() {
		t.Logf("the log of %s, at its end:\n%s", p.Control, tail(p.log.String()))
	}
}

// tail is as much of a log as a person reads.
func tail(log string) string {
	const most = 100
	var lines []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"msg":"connection closed"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

// get asks the operations port, on a connection of its own that is gone when get returns.
func (p *process) get(t *testing.T, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + p.Ops + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v\n%s", path, response.Status, err, body)
	}
	return string(body)
}

// vitals are the resources that a process must not lose to any visitor.
type vitals struct{ goroutines, files int }

// vitals asks for the goroutines' profile: while metrics are gathered there are more.
func (p *process) vitals(t *testing.T) vitals {
	t.Helper()
	goroutines := gauge(t, p.get(t, "/debug/pprof/goroutine?debug=1"), "goroutine profile: total")
	return vitals{goroutines, gauge(t, p.get(t, "/metrics"), "process_open_fds")}
}

// gauge finds the value of a metric without labels.
func gauge(t *testing.T, metrics, name string) int {
	t.Helper()
	for line := range strings.Lines(metrics) {
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
