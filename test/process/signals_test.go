package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// commandLines returns the arguments of both commands that run a hub.
func commandLines(t *testing.T) map[string][]string {
	t.Helper()
	return map[string][]string{"serve": bed.InsecureArgs(), "dev": bed.DevArgs(t)}
}

// piped is a hub whose stdout and stderr are pipes; the test may stop to read them, or close them.
type piped struct {
	*bed.Process

	stdout, stderr *os.File // the ends to read from
}

// startPiped starts a hub and reads its log until it is ready. Nothing is read after that.
func startPiped(t *testing.T, args ...string) *piped {
	t.Helper()
	p := &piped{}
	var ends [2]*os.File
	for i, read := range []**os.File{&p.stdout, &p.stderr} {
		var err error
		if *read, ends[i], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*read).Close() })
		// A page is the least that a pipe can hold: so it is full after a few lines.
		if _, _, errno := syscall.Syscall(
			syscall.SYS_FCNTL, (*read).Fd(), syscall.F_SETPIPE_SZ, 4096,
		); errno != 0 {
			t.Fatal(errno)
		}
	}
	command := bed.Command(t, args...)
	command.Stdout, command.Stderr = ends[0], ends[1]
	log := &startOfLog{file: p.stderr}
	p.Process = bed.StartFollowed(t, command, log)
	for _, end := range ends {
		_ = end.Close()
	}
	p.Await(t, p.Ready)
	return p
}

// startOfLog reads the log of a hub up to the chunk that has the end of the line "ready".
type startOfLog struct {
	file *os.File
	read []byte // all of it
}

var readyLine = regexp.MustCompile(`"msg":"ready".*\n`)

// Read reads a chunk of the file.
func (l *startOfLog) Read(chunk []byte) (int, error) {
	if readyLine.Match(l.read) {
		return 0, io.EOF
	}
	n, err := l.file.Read(chunk)
	l.read = append(l.read, chunk[:n]...)
	return n, err
}

// requireServing proves that a hub serves: a message reaches its client.
func requireServing(t *testing.T, p *bed.Process, client *websocket.Conn, what string) {
	t.Helper()
	if g := testkit.Get(t, "http://"+p.Ops+"/healthz", nil); g.Code != 200 {
		t.Errorf("/healthz %s: %d", what, g.Code)
	}
	_, err := controlv1.NewDeliveryServiceClient(testkit.DialControl(t,
		p.Control)).Send(t.Context(),
		&controlv1.SendRequest{
			Target:  &controlv1.Target{Users: []string{"ann"}},
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: what}},
		})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got := testkit.NextMessage(t, client); got != what {
		t.Errorf("the client got %q, want %q", got, what)
	}
}

// requireRefused asks for a path that is not there, and does not wait for ever.
func requireRefused(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Fatalf("status %d", response.StatusCode)
	}
}

// requireStop has a hub stop, as its client sees it.
func requireStop(t *testing.T, p *bed.Process, client *websocket.Conn) {
	t.Helper()
	if _, _, err := client.Read(
		t.Context(),
	); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the client sees %v, want 1001", err)
	}
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// waitForMetric waits until a metric is above 0, and returns its value.
func waitForMetric(t *testing.T, ops, name string) (value float64) {
	t.Helper()
	testkit.Eventually(t, name+" is above 0", func() bool {
		for line := range strings.Lines(testkit.Get(t, "http://"+ops+"/metrics", nil).Body) {
			if _, err := fmt.Sscanf(line, name+" %g", &value); err == nil && value > 0 {
				return true
			}
		}
		return false
	})
	return value
}

const linesLost = "connhub_log_lines_lost_total"

func TestHubOutlivesTheReadersOfItsOutput(t *testing.T) {
	t.Parallel()
	for command, args := range commandLines(t) {
		t.Run(command, func(t *testing.T) {
			p := startPiped(t, args...)
			client := testkit.DialClient(t, p.Clients, "user=ann")
			_ = p.stdout.Close()
			_ = p.stderr.Close()
			_ = testkit.DialClient(t, p.Clients, "user=bob").Close(websocket.StatusNormalClosure,
				"")
			waitForMetric(t, p.Ops, linesLost)
			requireServing(t, p.Process, client, "after a line that was lost")
			p.Signal(t, syscall.SIGTERM)
			requireStop(t, p.Process, client)
		})
	}
}

func TestHubDoesNotWaitForAReaderOfItsLogThatHasStopped(t *testing.T) {
	t.Parallel()
	for command, args := range commandLines(t) {
		t.Run(command, func(t *testing.T) {
			p := startPiped(t, append(args, "--log-level=debug")...)
			client := testkit.DialClient(t, p.Clients, "user=ann")
			// Many times the size of the pipe: each request that is refused is a line of its own at
			// first.
			path := "http://" + p.Clients + "/client/" + strings.Repeat("x", 4<<10)
			for range 20 {
				requireRefused(t, path)
			}
			requireServing(t, p.Process, client, "while nobody reads the log")
			p.Signal(t, syscall.SIGTERM)
			requireStop(t, p.Process, client)
		})
	}
}

// harmless are the signals that a hub ignores, although most of them end a process that decides
// nothing.
var harmless = []syscall.Signal{
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGVTALRM,
	syscall.SIGPROF, syscall.SIGXCPU,
	syscall.SIGXFSZ, syscall.SIGIO, syscall.SIGPWR, syscall.SIGWINCH, syscall.SIGURG,
	syscall.SIGCHLD, syscall.SIGCONT, 36, 64,
}

func TestSignalsOfNoMeaningDoNothing(t *testing.T) {
	t.Parallel()
	for command, args := range commandLines(t) {
		t.Run(command, func(t *testing.T) {
			p := bed.StartReady(t, args...)
			client := testkit.DialClient(t, p.Clients, "user=ann")
			for _, s := range harmless {
				p.Signal(t, s)
				requireServing(t, p, client, s.String())
			}
			p.Signal(t, syscall.SIGTERM)
			requireStop(t, p, client)
		})
	}
}

func TestSIGQUITShowsGoroutinesAndExits2(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.InsecureArgs()...)
	p.Signal(t, syscall.SIGQUIT)
	if code := p.ExitCode(t, 10*time.Second); code != 2 || !strings.Contains(
		p.Log.String(), "SIGQUIT: quit",
	) {
		t.Errorf("exit %d:\n%.2000s", code, p.Log)
	}
}

// Commands that print are parts of pipelines: when the reader has seen enough, they end as other
// tools do.
func TestOperatorsCommandsEndQuietlyWithTheirReader(t *testing.T) {
	t.Parallel()
	hub := bed.StartReady(t, bed.InsecureArgs()...)
	for _, args := range [][]string{
		{"version"},
		{"hubs", "--addr=" + hub.Control},
		{"send", "--everyone", "--addr=" + hub.Control, "x"},
		{"events", "tail", "--addr=" + hub.Control},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = read.Close()
		var stderr bytes.Buffer
		cmd := bed.Command(t, args...)
		cmd.Stdout, cmd.Stderr = write, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for waits := true; waits; {
			select {
			case err = <-ended:
				waits = false
			case <-time.After(20 * time.Millisecond): // for `events tail`
				_ = testkit.DialClient(t, hub.Clients, "user=ann").CloseNow()
			}
		}
		_ = write.Close()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Errorf("connhub %v ends with %v", args, err)
			continue
		}
		if status, _ := exit.Sys().(syscall.WaitStatus); !status.Signaled() ||
			status.Signal() != syscall.SIGPIPE {
			t.Errorf("connhub %v ends with %v, %s", args, exit, stderr.String())
		}
		if strings.Contains(stderr.String(), "panic") {
			t.Errorf("connhub %v: %s", args, stderr.String())
		}
	}
}
