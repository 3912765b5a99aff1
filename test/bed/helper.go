package bed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
)

// Helper is the test program in a role, in a process of its own. It reads lines of JSON from its
// standard input and answers each line with a line. It ends when its input does, so none outlives
// the tests. It belongs to the goroutine of its test.
type Helper struct {
	Answers chan []byte // lines; closed when its output has ended

	role    string
	command *exec.Cmd
	input   io.WriteCloser
	said    strings.Builder
	ended   sync.Once
}

// StartHelper starts a role of Main until the test ends. In production clients and etcd are on
// machines of their own. Here the helper yields to the hubs.
func StartHelper(t *testing.T, role string) *Helper {
	t.Helper()
	return startRole(t, role, "nice", "-n", "19")
}

// StartPromptHelper starts a role that must answer in time: it yields to no process.
func StartPromptHelper(t *testing.T, role string) *Helper {
	t.Helper()
	return startRole(t, role)
}

// startRole starts a role behind the command in before, if there is any.
func startRole(t *testing.T, role string, before ...string) *Helper {
	t.Helper()
	path, err := buildRoles()
	if err != nil {
		t.Fatal(err)
	}
	h := &Helper{role: role, Answers: make(chan []byte)}
	before = append(before, path)
	h.command = exec.CommandContext(context.Background(), before[0], before[1:]...)
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
		defer close(h.Answers)
		lines := bufio.NewReader(output)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			h.Answers <- line
		}
	}()
	t.Cleanup(h.Stop)
	return h
}

// Tell asks the helper to do something, by a value that JSON can carry. It does not wait for the
// answer.
func (h *Helper) Tell(t *testing.T, question any) {
	t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.input.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: %v\n%s", h.role, err, h.said.String())
	}
}

// Hear waits for the answer to the oldest question, and stores it in the value that answer points
// to.
func (h *Helper) Hear(t *testing.T, answer any) {
	t.Helper()
	line, ok := testkit.Receive(t, h.role+" answers", h.Answers)
	h.Understand(t, line, ok, answer)
}

// Understand is Hear for an answer that was received from Answers; ok tells whether it was.
func (h *Helper) Understand(t *testing.T, line []byte, ok bool, answer any) {
	t.Helper()
	if !ok {
		h.Stop()
		t.Fatalf("%s has ended:\n%s", h.role, h.said.String())
	}
	if err := json.Unmarshal(line, answer); err != nil {
		t.Fatalf("%s answers %s: %v", h.role, line, err)
	}
}

// Stop ends the helper, at once and in any state. Only the first call counts.
func (h *Helper) Stop() {
	h.ended.Do(func() {
		_ = h.command.Process.Signal(syscall.SIGKILL)
		for range h.Answers {
		}
		_ = h.command.Wait()
	})
}

// Signal stops or continues the helper.
func (h *Helper) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := h.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// AnswerLines is the life of a helper, on its side: answer is called for each question, one at a
// time. It returns nil at the end of the questions, and the first error of answer.
func AnswerLines[Q any](answer func(Q) (any, error)) error {
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
