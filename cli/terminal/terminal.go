package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Terminal is the input and output of a command. It belongs to the goroutine of the command.
type Terminal struct {
	Stdin  io.Reader        // the input
	Stdout io.Writer        // for answers
	Stderr io.Writer        // for errors, notes and progress
	Out    Palette          // for Stdout
	Err    Palette          // for Stderr
	Now    func() time.Time // ages are counted from it

	// OwnProcess is set if the command owns the process: signals, and the log of libraries.
	OwnProcess bool
	// AtEnd is called after the last output; nil: nothing is to do.
	AtEnd func()
}

// New returns a terminal. It uses colours for the outputs that show them.
func New(stdin io.Reader, stdout, stderr io.Writer) *Terminal {
	return &Terminal{
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Out: Palette{On: WantsColour(stdout)}, Err: Palette{On: WantsColour(stderr)},
		Now: time.Now,
	}
}

// EndOutput ends the output of the command. Nothing may be printed after it.
func (t *Terminal) EndOutput() {
	if t.AtEnd != nil {
		t.AtEnd()
	}
}

// PrintNote prints a remark beside the answer, on stderr so that it does not get into pipes.
func (t *Terminal) PrintNote(format string, args ...any) {
	_, _ = fmt.Fprintln(t.Stderr, t.Err.DimText(fmt.Sprintf(format, args...)))
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// WantsColour reports whether text for w may be coloured. It follows https://no-color.org.
func WantsColour(w io.Writer) bool {
	return IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Palette colours text, or leaves it unchanged.
type Palette struct {
	On bool // text is coloured
}

func (p Palette) paintText(code, s string) string {
	if !p.On || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// BoldText returns s in bold.
func (p Palette) BoldText(s string) string { return p.paintText("1", s) }

// DimText returns s dimmed.
func (p Palette) DimText(s string) string { return p.paintText("2", s) }

// RedText returns s in red.
func (p Palette) RedText(s string) string { return p.paintText("31", s) }

// GreenText returns s in green.
func (p Palette) GreenText(s string) string { return p.paintText("32", s) }

// YellowText returns s in yellow.
func (p Palette) YellowText(s string) string { return p.paintText("33", s) }

// CyanText returns s in cyan.
func (p Palette) CyanText(s string) string { return p.paintText("36", s) }

// MakePrintable makes a stranger's text fit to be shown. It replaces characters that a terminal
// might obey or that turn the direction of writing.
func MakePrintable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// AgeWords words the time since an event in its largest unit: "now", "42s ago", "3m ago", "5d ago".
func AgeWords(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return SpanWords(d) + " ago"
}

// SpanWords words a length of time in its largest unit.
func SpanWords(d time.Duration) string {
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

// CountNoun puts a number before a noun: "1 connection", "3 connections".
func CountNoun[N ~int | ~int32 | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
