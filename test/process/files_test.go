//go:build unix

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// within runs a request to a hub. The promise is that it takes at most a second longer than alone,
// which is its time while the hub has nothing else to do.
func within(t *testing.T, p *bed.Process, alone time.Duration, what string, do func() error) {
	t.Helper()
	meter, began := p.NewMeter(), time.Now()
	defer meter.Stop()
	if err := do(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if took, limit := time.Since(began), meter.Limit(time.Second)+alone; took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

// silent opens connections that say nothing, until the test ends.
func silent(t *testing.T, address string, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestAFewFilesAndManyStrangersLeaveAHubThatAnswers(t *testing.T) {
	t.Parallel()
	const (
		files     = 128
		strangers = 300
		clients   = 200
	)
	p := bed.StartCommand(t, bed.Shell(
		t, fmt.Sprintf("ulimit -n %d;", files), bed.InsecureArgs("--log-format=json")...,
	))
	p.Await(t, p.Ready)
	line := testkit.WaitForLog(t, p.Log, "file descriptors")
	shares, _ := line["files"].(map[string]any)
	if shares["limit"] != float64(files) || shares["clients"] != 32.0 || line["level"] != "INFO" {
		t.Errorf("the log does not tell that the file limit leaves 32 clients: %v", line)
	}
	began := time.Now()
	bed.Program.MustRun(t, "hubs", "--addr", p.Control)
	alone := time.Since(began) // with the reading of the command line
	silent(t, p.Clients, strangers)
	silent(t, p.Control, strangers)
	silent(t, p.Ops, strangers)
	var in, refused int
	for i := range clients {
		conn, response, err := websocket.Dial(
			t.Context(), fmt.Sprintf("ws://%s/ws?user=u%d", p.Clients, i), nil,
		)
		switch {
		case err == nil:
			in++
			t.Cleanup(func() { _ = conn.CloseNow() })
		case response != nil && response.StatusCode == http.StatusServiceUnavailable &&
			response.Header.Get("Retry-After") != "":
			refused++
		default:
			t.Fatalf("client %d: %v", i, err)
		}
	}
	if in < 8 || refused == 0 || in+refused != clients {
		t.Errorf("%d clients are in and %d are told to come later, of %d", in, refused, clients)
	}
	within(t, p, alone, "/healthz", func() error { return askHealth(t.Context(), p.Ops) })
	for _, command := range [][]string{{"send", "--everyone", "hello"}, {"hubs"}} {
		within(t, p, alone, "connhub "+command[0], func() error {
			if r := bed.Program.Run(t, "", append(command, "--addr",
				p.Control)...); r.Code != terminal.ExitOK {
				return fmt.Errorf("exit %d: %s", r.Code, r.Stderr)
			}
			return nil
		})
	}
	if n := strings.Count(p.Log.String(), "accept failed"); n > 0 {
		t.Errorf("%d lines tell of errors of accept: the limits of the hub are above the "+
			"system's\n%s", n, p.Log)
	}
}

func askHealth(ctx context.Context, ops string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "alive\n" {
		return fmt.Errorf("%s, %q: %w", response.Status, body, err)
	}
	return nil
}

func TestFewerFilesThanMaxConnectionsAreWarnedOfIfItWasGiven(t *testing.T) {
	t.Parallel()
	config := testkit.WriteFile(t, "config.yaml", "max-connections: 33\n")
	for name, tt := range map[string]struct {
		prefix string
		args   []string
		warned bool
	}{
		"flag":              {"", []string{"--max-connections=33"}, true},
		"environment":       {"CONNHUB_MAX_CONNECTIONS=33 ", nil, true},
		"file":              {"", []string{"--config=" + config}, true},
		"the default given": {"", []string{"--max-connections=1000000"}, true},
		"files enough":      {"", []string{"--max-connections=32"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := bed.StartCommand(t, bed.Shell(
				t, "ulimit -n 128; "+tt.prefix, bed.ServeArgs(t, tt.args...)...,
			))
			p.Await(t, p.Bound)
			line := testkit.WaitForLog(t, p.Log, "file descriptors")
			problem, _ := line["problem"].(string)
			told := strings.Contains(problem, "--max-connections")
			if told != tt.warned || (line["level"] == "WARN") != tt.warned {
				t.Errorf("%v, want a warning: %v", line, tt.warned)
			}
		})
	}
}

func TestAHubWithTooFewFilesSaysSoAndDoesNotStart(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	command := bed.Shell(t, "ulimit -n 64;", "serve", "--insecure-dev", "--single-hub")
	command.Stderr = &out
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok ||
		exit.ExitCode() != terminal.ExitUsage {
		t.Errorf("%v, want exit code %d", err, terminal.ExitUsage)
	}
	if !strings.Contains(
		out.String(), "the limit of file descriptors is 64 (ulimit -n), want at least 104",
	) {
		t.Errorf("stderr: %s", &out)
	}
}
