package terminaltest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/cli/terminal"
)

// Program runs a command line with a terminal, and returns the exit code.
type Program func(ctx context.Context, args []string, t *terminal.Terminal) int

// Result is the output of a command and its exit code.
type Result struct {
	Stdout string // of the terminal
	Stderr string // of the terminal
	Code   int    // the exit code
}

// Run runs a command line in this process. stdin is its input.
func (p Program) Run(t *testing.T, stdin string, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := p(t.Context(), args, terminal.New(strings.NewReader(stdin), &stdout, &stderr))
	return Result{stdout.String(), stderr.String(), code}
}

// MustRun is Run for commands that must succeed. It returns their answer.
func (p Program) MustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := p.Run(t, "", args...)
	if r.Code != terminal.ExitOK {
		t.Fatalf("connhub %q exits %d: %s", args, r.Code, r.Stderr)
	}
	return r.Stdout
}

// NewProgram returns the program of a struct of commands, as package kong knows them. newValues
// returns a pointer to a new struct.
func NewProgram(newValues func() any) Program {
	return func(ctx context.Context, args []string, t *terminal.Terminal) int {
		parser, err := kong.New(newValues(), kong.Name("connhub"), kong.NoDefaultHelp(),
			kong.Writers(t.Stdout, t.Stderr))
		if err != nil {
			return t.ReportError(err)
		}
		selected, err := parser.Parse(args)
		if err != nil {
			return t.ReportError(terminal.UsageErrorf("%w", err))
		}
		selected.BindTo(ctx, (*context.Context)(nil))
		if err := selected.Run(t); err != nil {
			return t.ReportError(err)
		}
		return terminal.ExitOK
	}
}
