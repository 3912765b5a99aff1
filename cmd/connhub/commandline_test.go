package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
)

// idleLines are command lines that tests use again. With the race detector kong takes some 50 ms to
// build a command line, and the tests read hundreds.
var idleLines = make(chan *commandLine, 16)

// takeCommandLine returns a command line that is as good as new. The caller returns it with
// returnCommandLine.
func takeCommandLine(stdout, stderr io.Writer) (*commandLine, error) {
	select {
	case l := <-idleLines:
		l.parser.Stdout, l.parser.Stderr = stdout, stderr
		return l, l.forget()
	default:
		return newCommandLine(stdout, stderr)
	}
}

func returnCommandLine(l *commandLine) {
	select {
	case idleLines <- l:
	default: // enough of them
	}
}

// forget undoes the last command line: it resets the values, and kong's marks at the flags,
// arguments and commands that the line named.
func (l *commandLine) forget() error {
	l.values = commandSet{}
	return kong.Visit(l.parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch n := node.(type) {
		case *kong.Application:
			n.Active = false
		case *kong.Node:
			n.Active = false
		case *kong.Flag:
			n.Active, n.Set = false, false
		case *kong.Value:
			n.Active, n.Set = false, false
		}
		return next(nil)
	})
}

// runArgs is run with a command line that an earlier test may have used.
func runArgs(ctx context.Context, args []string, t *terminal.Terminal) int {
	line, err := takeCommandLine(t.Stdout, t.Stderr)
	if err != nil {
		return t.ReportError(err)
	}
	defer returnCommandLine(line)
	return line.runCommand(ctx, args, t)
}

// readLine parses args, and returns the command and its values as text.
func readLine(t *testing.T, l *commandLine, args []string) (commandSet, string) {
	t.Helper()
	selected, err := l.parser.Parse(args)
	if err != nil {
		return commandSet{}, fmt.Sprint(err, commandPath(err))
	}
	return l.values, selected.Command()
}

func TestACommandLineThatWasUsedIsAsGoodAsNew(t *testing.T) {
	t.Parallel()
	used, err := newCommandLine(io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]string{
		{"send", "--everyone", "--binary", "--metadata=a=b", "-"},
		{"send", "--everyone", "--json-payload", "{}"},
		{"send", "--user=ann"},
		{"connections", "close", "--user=bob", "--max-matched=3"},
		{"serve", "--config=" + testkit.WriteFile(
			t, "c.yaml", "name: n\nallowed-origin: [a]\n",
		), "--zone=z"},
		{"serve", "--max-connections=3", "--namespace-overflow=chat=close"},
		{"bogus"},
	}
	for i, last := range lines {
		fresh, err := newCommandLine(&bytes.Buffer{}, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		want, wantWords := readLine(t, fresh, last)
		for j, first := range lines {
			readLine(t, used, first)
			if err := used.forget(); err != nil {
				t.Fatal(err)
			}
			got, words := readLine(t, used, last)
			if words != wantWords || !reflect.DeepEqual(got, want) {
				t.Errorf("%q behind %q: %q, %+v; want %q, %+v",
					lines[i], lines[j], words, got, wantWords, want)
			}
			if err := used.forget(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
