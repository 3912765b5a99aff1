package k8s

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// process is the container of a pod, running here.
type process struct {
	pod

	cmd   *exec.Cmd
	log   logBuffer // stdout and stderr
	ended chan struct{}
}

// logBuffer is written by the goroutine that copies a process's output, and read by the test.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs the container of p: its variables and no others, its arguments, its mounted files
// below a folder. hosts are the addresses of pods that have names. It is killed at the latest when
// the test ends.
func start(t *testing.T, p pod, hosts map[string]string) *process {
	t.Helper()
	folder := t.TempDir()
	variables, problems := p.environment()
	files, more := p.files()
	if problems = append(problems, more...); len(problems) > 0 {
		t.Fatalf("%s: %v", p.name, problems)
	}
	var replacements []string
	for _, m := range p.container().VolumeMounts {
		replacements = append(replacements, m.MountPath+"/", filepath.Join(folder, m.MountPath)+"/")
		// As open as Kubernetes leaves a volume; the files that etcd makes in it are its own.
		if err := os.MkdirAll(filepath.Join(folder, m.MountPath), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		write(t, filepath.Join(folder, name), content)
	}
	for host, address := range hosts {
		replacements = append(replacements, host, address)
	}
	here := strings.NewReplacer(append(replacements, "0.0.0.0:", p.ip+":")...)

	program := &process{pod: p, ended: make(chan struct{})}
	c := p.container()
	program.cmd = exec.CommandContext(context.Background(), hubBinary, c.Args...)
	if len(c.Command) > 0 { // etcd: the hub's image has a command of its own
		program.cmd = exec.CommandContext(context.Background(), os.Args[0])
		program.cmd.Env = append(program.cmd.Env, runAsEtcd+"=1")
	}
	for _, v := range variables {
		value := here.Replace(v.value)
		if listeners[v.name] != "" && strings.HasPrefix(value, ":") {
			value = p.ip + value
		}
		program.cmd.Env = append(program.cmd.Env, v.name+"="+value)
	}
	program.cmd.Stdout, program.cmd.Stderr, program.cmd.Dir = &program.log, &program.log, folder
	program.run(t)
	return program
}

func (p *process) run(t *testing.T) {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			lines := strings.SplitAfter(p.log.String(), "\n")
			t.Logf("the last of %s:\n%s", p.name, strings.Join(
				lines[max(0, len(lines)-logShown):], "",
			))
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o440); err != nil {
		t.Fatal(err)
	}
}

// ask makes a request as the kubelet does: a status from 200 to 399 is a success.
func (p *process) ask(ctx context.Context, probe *corev1.Probe) error {
	port, ok := p.port(probe.HTTPGet.Port)
	if !ok {
		return fmt.Errorf("no port %s", probe.HTTPGet.Port.String())
	}
	limit := time.Duration(max(probe.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	url := fmt.Sprintf("http://%s:%d%s", p.ip, port.ContainerPort, probe.HTTPGet.Path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s: %s", url, response.Status, bytes.TrimSpace(body))
	}
	return nil
}

// logShown is how many lines of a process's log a failed test shows: etcd is talkative.
const logShown = 25

// patience bounds every wait below, of which nothing promises when it ends. On two quiet cores an
// etcd of three needs some seconds, on busy ones ten times as long.
const patience = 3 * time.Minute

// awaitReady passes the probes in the kubelet's order, and gives them as much time as they say, or
// less.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	probes := p.probes()
	begin := probes["startup"]
	p.eventually(t, "the startup probe", min(
		patience, time.Duration(begin.PeriodSeconds*begin.FailureThreshold)*time.Second,
	), func() error {
		return p.ask(t.Context(), begin)
	})
	p.eventually(t, "the readiness probe", patience, func() error {
		return p.ask(t.Context(), probes["readiness"])
	})
	if err := p.ask(t.Context(), probes["liveness"]); err != nil {
		t.Errorf("%s: the liveness probe: %v", p.name, err)
	}
}

// eventually tries until it works; it fails the test when the process ends or the time does.
func (p *process) eventually(t *testing.T, what string, limit time.Duration, try func() error) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	over := time.NewTimer(limit)
	defer over.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-p.ended:
			t.Fatalf("%s: %s: the process ended: %s", p.name, what, p.cmd.ProcessState)
		case <-over.C:
			t.Fatalf("%s: %s, after %v: %v", p.name, what, limit, err)
		}
	}
}

// stop sends SIGTERM, as the kubelet does, and holds that the process ends well within limit.
func (p *process) stop(t *testing.T, limit time.Duration) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil &&
		!errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(limit):
		t.Fatalf("%s still runs %v after SIGTERM", p.name, limit)
	}
}
