package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	// progressAfter is the time after which a command shows its progress.
	progressAfter = time.Second
	// ProgressEvery is the time between two changes of the line: often enough to look alive, slow
	// enough to read.
	ProgressEvery = 200 * time.Millisecond
	// DefaultWidth is the width of a terminal that does not report its own.
	DefaultWidth = 80
)

// Progress is a line at the bottom of a terminal that shows the progress of a long command. It
// needs no library: there is no bar to draw if the end is not known.
type Progress struct {
	out   io.Writer // nil: nothing is shown
	paint Palette
	width int
	since time.Time
	total int64 // bytes of the input; 0: unknown
	shown bool
}

// NewProgress returns a progress line for Stderr if that is a terminal. The work ends with the
// input in; nil: its end is not known.
func (t *Terminal) NewProgress(in io.Reader) *Progress {
	p := &Progress{since: t.Now()}
	f, ok := t.Stderr.(*os.File)
	if !ok || !IsTerminal(f) || os.Getenv("TERM") == "dumb" {
		return p
	}
	p.out, p.paint, p.width = f, t.Err, DefaultWidth
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		p.width = width
	}
	if file, ok := in.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			p.total = info.Size()
		}
	}
	return p
}

// ShowLines draws the line of a command that sends lines. done and failed are lines, read are the
// bytes of the input that were read. It shows nothing in the first second.
func (p *Progress) ShowLines(now time.Time, done, failed, read int64) {
	elapsed := now.Sub(p.since)
	if !p.IsVisible() || elapsed < progressAfter {
		return
	}
	parts := []string{CountNoun(done, "line") + " sent"}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	rate := float64(done+failed) / elapsed.Seconds()
	parts = append(parts, fmt.Sprintf("%.0f/s", rate), SpanWords(elapsed))
	if p.total > 0 {
		parts = append(parts, fmt.Sprintf("%d%%", min(100*read/p.total, 100)))
	}
	p.DrawLine(strings.Join(parts, " · "))
}

// DrawLine replaces the line. The line must be visible.
func (p *Progress) DrawLine(text string) {
	// a full line would wrap
	_, _ = fmt.Fprint(p.out, "\r\x1b[K"+p.paint.DimText(ShortenText(text, p.width-1)))
	p.shown = true
}

// IsVisible reports whether there is a terminal to draw on.
func (p *Progress) IsVisible() bool { return p.out != nil }

// HideLine makes the line invisible for good. It must come before the first drawing.
func (p *Progress) HideLine() { p.out = nil }

// ClearLine removes the line, so that something else can be printed.
func (p *Progress) ClearLine() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
