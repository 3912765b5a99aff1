package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// terminal is the input and output of a command.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	out            palette          // for stdout
	err            palette          // for stderr
	now            func() time.Time // ages are counted from it
	// the command owns the process: signals, and the log of libraries
	ownProcess bool
	log        *hubLog // nil: the command does not run a hub
}

func newTerminal(stdin io.Reader, stdout, stderr io.Writer) *terminal {
	return &terminal{
		stdin: stdin, stdout: stdout, stderr: stderr,
		out: palette{on: wantsColour(stdout)}, err: palette{on: wantsColour(stderr)},
		now: time.Now,
	}
}

// startLog starts the log of a hub. From here on a reader that stops or leaves can neither block
// nor end the process.
func (t *terminal) startLog(format string, level slog.Level) *hubLog {
	t.log = openLog(t.stderr, format, level)
	t.stdout, t.stderr = t.log.out.outletTo(t.stdout), t.log.out
	if t.ownProcess {
		ignoreBrokenPipes()
		t.log.gatherLibraries()
	}
	return t.log
}

// endLog writes the queued lines, if there is a log.
func (t *terminal) endLog() {
	if t.log != nil {
		t.log.Close()
	}
}

// reportError prints err, in a line unless it is a list of problems, and returns the exit code.
func (t *terminal) reportError(err error) int {
	_, _ = fmt.Fprintf(t.stderr, "%s %s\n", t.err.redText("connhub:"), errorWords(err))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitError
}

// printNote prints a remark beside the answer, on stderr so that it does not get into pipes.
func (t *terminal) printNote(format string, args ...any) {
	_, _ = fmt.Fprintln(t.stderr, t.err.dimText(fmt.Sprintf(format, args...)))
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	if log, ok := w.(*logWriter); ok {
		w = log.to
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// wantsColour follows https://no-color.org.
func wantsColour(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// palette colours text, or leaves it unchanged.
type palette struct{ on bool }

func (p palette) paintText(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) boldText(s string) string   { return p.paintText("1", s) }
func (p palette) dimText(s string) string    { return p.paintText("2", s) }
func (p palette) redText(s string) string    { return p.paintText("31", s) }
func (p palette) greenText(s string) string  { return p.paintText("32", s) }
func (p palette) yellowText(s string) string { return p.paintText("33", s) }
func (p palette) cyanText(s string) string   { return p.paintText("36", s) }

// makePrintable makes a stranger's text fit to be shown. It replaces characters that a terminal
// might obey or that turn the direction of writing.
func makePrintable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// ageWords words the time since an event in its largest unit: "now", "42s ago", "3m ago", "5d ago".
func ageWords(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return spanWords(d) + " ago"
}

// spanWords is a length of time in its largest unit.
func spanWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/day)
	}
}

// countNoun puts a number before a noun: "1 connection", "3 connections".
func countNoun[N ~int | ~int32 | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
