//go:build bench && linux

package engine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// binaryVariable names the binary that is shipped, for the hub's process.
const binaryVariable = "CONNHUB_BENCH_BINARY"

// TestBinary measures what is shipped as a black box, from outside: it can't be much worse than what it is made of.
func TestBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "connhub")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/connhub/connhub/cmd/connhub")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	t.Setenv(binaryVariable, path)
	measure(t, "the binary, 128 bytes to 5,000")
}

// blackBox is the shipped binary, running, with its flags as they come.
type blackBox struct {
	Clients, Control string // addresses

	command *exec.Cmd
}

// startBinary runs it, on the hub's core.
func startBinary() (*blackBox, error) {
	b := &blackBox{command: exec.Command(os.Getenv(binaryVariable), "serve", "--single-hub", "--insecure-dev",
		"--listen-clients", "127.0.0.1:0", "--listen-control", "127.0.0.1:0", "--listen-ops", "127.0.0.1:0")}
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
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Clients, Control string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			return nil, fmt.Errorf("the binary: %s", lines.Text())
		}
		switch line.Msg {
		case "starting":
			b.Clients, b.Control = line.Clients, line.Control
		case "ready":
			go func() {
				for lines.Scan() { // or it would block on its log
				}
			}()
			return b, nil
		}
	}
	return nil, fmt.Errorf("the binary is not ready: %w", lines.Err())
}

// cpu is what the binary and this process have used together: each is idle while the other works.
func (b *blackBox) cpu() time.Duration {
	return cpuTime() + clockTime(processClock(b.command.Process.Pid))
}

// measureBinary: fan-out and bursts, each called for over gRPC, beside raw writes to as many sockets of a server that does
// nothing else.
func measureBinary() ([]row, error) {
	shipped, err := startBinary()
	if err != nil {
		return nil, err
	}
	defer func() { _ = shipped.command.Process.Kill() }()
	l, err := listen()
	if err != nil {
		return nil, err
	}
	b := &bed{clients: shipped.Clients, backends: shipped.Control, sockets: &keeper{Listener: l}}
	serveAccept(b.sockets)
	if b.load, err = startChild(loadRole, loadCore); err != nil {
		return nil, err
	}
	for _, address := range []string{shipped.Clients, l.Addr().String()} {
		if _, err := b.order(order{Open: &opening{Address: address, Path: clientPath(), Count: audience}}); err != nil {
			return nil, err
		}
	}
	took, err := rounds(shipped.cpu, pairs, b.several(call{Count: 1, Batch: 1}), b.raw(audience, textFrame))
	if err != nil {
		return nil, err
	}
	rows := []row{ratio("one at a time, SendStream", audience, took, 1.25)}
	for _, way := range []struct {
		name   string
		call   call
		target float64
	}{
		{"a batch of 8 to one group, SendStream", call{Count: burst, Batch: burst}, 1.35},
		{"8 calls of Send at once", call{Count: burst, Unary: true}, 2.4},
	} {
		if took, err = rounds(shipped.cpu, pairs, b.several(way.call), b.raw(audience, coalesced)); err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		rows = append(rows, ratio(way.name, audience*burst, took, way.target))
	}
	return rows, b.load.stop()
}
