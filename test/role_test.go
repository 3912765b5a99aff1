package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
)

// buildRoles builds this program, once for all tests, without the race detector. Clients and etcd
// only keep the hubs busy, and take a fraction of the processor's time without it. Dependencies are
// built as for `make build`, so their builds are cached.
var buildRoles = sync.OnceValues(func() (string, error) {
	if len(raceFlags) == 0 {
		return os.Args[0], nil
	}
	path := filepath.Join(binaryDir, "roles")
	build := exec.Command("go", "test", "-c", "-vet=off", "-trimpath", noDebugger, "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	return path, runBuild(build)
})

// helper is this program in a role, in a process of its own. It reads lines of JSON from its
// standard input and answers each line with a line. It ends when its input does, so none outlives
// the tests.
type helper struct {
	role    string
	command *exec.Cmd
	input   io.WriteCloser
	answers chan []byte // closed when its output has ended
	said    strings.Builder
	ended   sync.Once
}

// startHelper starts a role until the test ends.
func startHelper(t *testing.T, role string) *helper {
	t.Helper()
	path, err := buildRoles()
	if err != nil {
		t.Fatal(err)
	}
	h := &helper{role: role, answers: make(chan []byte)}
	// In production clients and etcd are on other machines. Here they yield to the hubs, but for
	// roles that must answer in time.
	h.command = exec.Command("nice", "-n", "19", path)
	if role == guestsRole {
		h.command = exec.Command(path)
	}
	h.command.Env = append(os.Environ(), roleVariable+"="+role)
	h.command.Stderr = &h.said
	if h.input, err = h.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := h.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.answers)
		lines := bufio.NewReader(output)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			h.answers <- line
		}
	}()
	t.Cleanup(h.stop)
	return h
}

// tell has the helper do something.
func (h *helper) tell(t *testing.T, question any) {
	t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.input.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: %v\n%s", h.role, err, h.said.String())
	}
}

// hear waits for the answer.
func (h *helper) hear(t *testing.T, answer any) {
	t.Helper()
	line, ok := testkit.Receive(t, h.role+" answers", h.answers)
	h.understand(t, line, ok, answer)
}

// understand parses the answers.
func (h *helper) understand(t *testing.T, line []byte, ok bool, answer any) {
	t.Helper()
	if !ok {
		h.stop()
		t.Fatalf("%s has ended:\n%s", h.role, h.said.String())
	}
	if err := json.Unmarshal(line, answer); err != nil {
		t.Fatalf("%s answers %s: %v", h.role, line, err)
	}
}

// stop ends the helper, at once and in any state.
func (h *helper) stop() {
	h.ended.Do(func() {
		_ = h.command.Process.Signal(syscall.SIGKILL)
		for range h.answers {
		}
		_ = h.command.Wait()
	})
}

// signal stops or continues it.
func (h *helper) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := h.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// answerLines is the life of a helper, on its side.
func answerLines[Q any](answer func(Q) (any, error)) error {
	input, output := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var question Q
		switch err := input.Decode(&question); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("question: %w", err)
		}
		a, err := answer(question)
		if err == nil {
			err = output.Encode(a)
		}
		if err != nil {
			return err
		}
	}
}
