package bed

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
)

// Binary returns the path of the binary.
func Binary(t *testing.T) string {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Command returns a command of the binary. It is not started.
func Command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return newCommand(context.Background(), Binary(t), args...)
}

// Shell returns a command that runs the binary behind a line of sh: limits or variables. The
// process of the shell becomes that of the binary.
func Shell(t *testing.T, before string, args ...string) *exec.Cmd {
	t.Helper()
	script := before + ` exec "$0" "$@"`
	return newCommand(
		context.Background(), "sh", append([]string{"-c", script, Binary(t)}, args...)...,
	)
}

// newCommand returns a command that ends with the test program. The race detector otherwise waits
// for a second before it ends a process, for reports of goroutines that nothing waits for any more.
func newCommand(ctx context.Context, path string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, path, args...)
	command.SysProcAttr = dieWithTests
	command.Env = append(os.Environ(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=50")
	return command
}

// Program runs command lines of operators, each in a process of its own.
var Program terminaltest.Program = runCommand

func runCommand(ctx context.Context, args []string, t *terminal.Terminal) int {
	path, err := buildBinary()
	if err != nil {
		return t.ReportError(err)
	}
	command := newCommand(ctx, path, args...)
	command.Stdin, command.Stdout, command.Stderr = t.Stdin, t.Stdout, t.Stderr
	if err := command.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		return t.ReportError(err)
	}
	return terminal.ExitOK
}
