package terminal

import (
	"context"
	"errors"
	"fmt"
)

// Exit codes of the program.
const (
	ExitOK    = 0 // it worked
	ExitError = 1 // it did not work, or a second signal came
	ExitUsage = 2 // the command line or the configuration is wrong; nothing was tried
)

// usageError is an error in the command line or the configuration: the exit code is 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// UsageErrorf returns an error in the command line or the configuration, for which ReportError
// returns ExitUsage. format and args are those of fmt.Errorf.
func UsageErrorf(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// ReportError prints err, in a line unless it is a list of problems, and returns the exit code.
func (t *Terminal) ReportError(err error) int {
	_, _ = fmt.Fprintf(t.Stderr, "%s %s\n", t.Err.RedText("connhub:"), errorWords(err))
	if _, ok := errors.AsType[usageError](err); ok {
		return ExitUsage
	}
	return ExitError
}

// errorWords words any error of a command. Several problems get a line each.
func errorWords(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}
