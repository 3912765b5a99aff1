//go:build bench && linux

package engine

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
	"syscall"
	"testing"
	"time"
)

// binaryVariable names the shipped binary for the process that measures it.
const binaryVariable = "CONNHUB_BENCH_BINARY"

// measureShipped builds the binary and runs this test's figure with it.
func measureShipped(t *testing.T, title string) {
	path := filepath.Join(t.TempDir(), "connhub")
	build := exec.Command(
		"go", "build", "-trimpath", "-o", path, "github.com/connhub/connhub/cmd/connhub",
	)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	t.Setenv(binaryVariable, path)
	measure(t, title)
}

// blackBox is a process of the shipped binary, with default flags but for those of startServe.
type blackBox struct {
	Clients, Control, Ops string // addresses
	Hub                   string // the hub's id

	command *exec.Cmd
	drained chan time.Duration // takes how long the drain of the hub took
}

// startBinary runs the binary on the hub's core, with further flags. Clients need no token.
func startBinary(flags ...string) (*blackBox, error) {
	return startServe(append([]string{"--insecure-dev"}, flags...)...)
}

// startServe runs `connhub serve` on the hub's core, with further flags. Backends have secrets, as
// in a bed.
func startServe(flags ...string) (*blackBox, error) {
	dir, err := os.MkdirTemp("", "connhub-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the binary reads the file only at its start
	file, err := secretFile(dir, secret)
	if err != nil {
		return nil, err
	}
	b := &blackBox{drained: make(chan time.Duration, 1)}
	b.command = exec.Command(os.Getenv(binaryVariable), append([]string{
		"serve", "--backend-secret-file", file, "--listen-clients", "127.0.0.1:0",
		"--listen-control", "127.0.0.1:0", "--listen-ops", "127.0.0.1:0",
	}, flags...)...)
	b.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := b.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	all, err := allCores()
	if err != nil {
		return nil, err
	}
	if err := onCore(all, hubCore, b.command.Start); err != nil {
		return nil, err
	}
	if err := b.await(bufio.NewScanner(log)); err != nil {
		return nil, err
	}
	return b, renoOf(b.command.Process)
}

// await reads the log until the binary is ready. A goroutine reads the rest: a full pipe would
// block the binary.
func (b *blackBox) await(log *bufio.Scanner) error {
	for log.Scan() {
		var line struct{ Msg, Clients, Control, Ops, Hub string }
		if json.Unmarshal(log.Bytes(), &line) != nil {
			return fmt.Errorf("the binary: %s", log.Text())
		}
		switch line.Msg {
		case "starting":
			b.Clients, b.Control, b.Ops = line.Clients, line.Control, line.Ops
		case "ready":
			b.Hub = line.Hub
			go b.follow(log)
			return nil
		}
	}
	return fmt.Errorf("the binary is not ready: %w", log.Err())
}

// follow reads the log until its end, and notes the end of the drain.
func (b *blackBox) follow(log *bufio.Scanner) {
	for log.Scan() {
		var line struct{ Msg, Took string }
		if json.Unmarshal(log.Bytes(), &line) != nil || line.Msg != "drained" {
			continue
		}
		if took, err := time.ParseDuration(line.Took); err == nil {
			b.drained <- took
		}
	}
}

// kill ends the process. Its figures have been read by then.
func (b *blackBox) kill() {
	_ = b.command.Process.Kill()
	_ = b.command.Wait()
}

// cpu returns a clock of the CPU time of the binaries and this process together. Each of them is
// idle while another works.
func cpu(binaries ...*blackBox) func() time.Duration {
	theirs := cpuOf(binaries...)
	return func() time.Duration { return cpuTime() + theirs() }
}

// cpuOf returns a clock of the CPU time of the binaries alone.
func cpuOf(binaries ...*blackBox) func() time.Duration {
	return func() (sum time.Duration) {
		for _, b := range binaries {
			sum += clockTime(processClock(b.command.Process.Pid))
		}
		return sum
	}
}

// get requests a path of the operations port.
func (b *blackBox) get(path string) (string, error) {
	response, err := http.Get("http://" + b.Ops + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return string(body), err
}

// metrics returns the values of metrics. A name includes the labels, if the metric has labels.
func (b *blackBox) metrics(names ...string) ([]float64, error) {
	page, err := b.get("/metrics")
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(names))
	for i, name := range names {
		_, rest, found := strings.Cut(page, "\n"+name+" ")
		if !found {
			return nil, fmt.Errorf("no %s in /metrics", name)
		}
		value, _, _ := strings.Cut(rest, "\n")
		if values[i], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, err
		}
	}
	return values, nil
}
