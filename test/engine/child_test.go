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

// The variables that make this program another one than the tests, and tell it which cores there are for all.
const (
	roleVariable  = "CONNHUB_BENCH_ROLE"
	coresVariable = "CONNHUB_BENCH_CORES"
)

// The cores of each role: the n-th that may be used.
const (
	hubCore = iota
	loadCore
)

// child is this program in another role, in a process of its own.
type child struct {
	role    string
	command *exec.Cmd
	input   io.WriteCloser
	answers *json.Decoder
}

// startChild starts a role. It must be stopped.
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

// allCores are those of the tests: a child that is pinned to one starts another one elsewhere.
func allCores() (cores, error) {
	var all cores
	if names := os.Getenv(coresVariable); names != "" {
		return all, json.Unmarshal([]byte(names), &all)
	}
	return allowed()
}

// ask has the child do something, and waits until it is done.
func (c *child) ask(question, answer any) error {
	if err := json.NewEncoder(c.input).Encode(question); err != nil {
		return fmt.Errorf("ask the %s: %w", c.role, err)
	}
	if err := c.answers.Decode(answer); err != nil {
		return fmt.Errorf("the %s does not answer: %w", c.role, err)
	}
	return nil
}

// stop lets the child end.
func (c *child) stop() error {
	if err := errors.Join(c.input.Close(), c.command.Wait()); err != nil {
		return fmt.Errorf("end of the %s: %w", c.role, err)
	}
	return nil
}

// answerLines is the life of a child, on its side.
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
