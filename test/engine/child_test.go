//go:build bench && linux

package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// The first variable gives this program a role besides that of the tests. The second has the cores
// that all roles share.
const (
	roleVariable  = "CONNHUB_BENCH_ROLE"
	coresVariable = "CONNHUB_BENCH_CORES"
)

// The core of each role, as an index into the allowed cores.
const (
	hubCore = iota
	loadCore
)

// child is this program in a role, in a process of its own.
type child struct {
	role    string
	command *exec.Cmd
	input   io.WriteCloser
	answers *json.Decoder
}

// startChild starts a role on a core. The caller must stop the child.
func startChild(role string, core int) (*child, error) {
	all, err := allCores()
	if err != nil {
		return nil, err
	}
	names, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	c := &child{role: role, command: exec.Command(os.Args[0])}
	c.command.Env = append(os.Environ(), roleVariable+"="+role, coresVariable+"="+string(names))
	c.command.Stderr = os.Stderr
	if c.input, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.answers = json.NewDecoder(output)
	return c, onCore(all, core, c.command.Start)
}

// allCores returns the cores of the tests. A child pinned to a core starts further processes on
// other cores.
func allCores() (cores, error) {
	var all cores
	if names := os.Getenv(coresVariable); names != "" {
		return all, json.Unmarshal([]byte(names), &all)
	}
	return allowed()
}

// ask sends a question to the child, and waits for the answer.
func (c *child) ask(question, answer any) error {
	if err := json.NewEncoder(c.input).Encode(question); err != nil {
		return fmt.Errorf("ask the %s: %w", c.role, err)
	}
	if err := c.answers.Decode(answer); err != nil {
		return fmt.Errorf("the %s does not answer: %w", c.role, err)
	}
	return nil
}

// stop ends the child and waits for its end.
func (c *child) stop() error {
	if err := errors.Join(c.input.Close(), c.command.Wait()); err != nil {
		return fmt.Errorf("end of the %s: %w", c.role, err)
	}
	return nil
}

// answerLines answers questions until standard input ends. It is the main function of a child.
func answerLines[Q any](answer func(Q) (any, error)) error {
	input, output := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var question Q
		switch err := input.Decode(&question); {
		case errors.Is(err, io.EOF):
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
