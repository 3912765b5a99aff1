package main

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
	// progressEvery is the time between two changes of the line: often enough to look alive, slow
	// enough to read.
	progressEvery = 200 * time.Millisecond
	// defaultWidth is the width of a terminal that does not report its own.
	defaultWidth = 80
)

// progress is a line at the bottom of a terminal that shows the progress of a long command. It
// needs no library: there is no bar to draw if the end is not known.
type progress struct {
	out   io.Writer // nil: nothing is shown
	paint palette
	width int
	since time.Time
	total int64 // bytes of the input; 0: unknown
	shown bool
}

// newProgress returns a progress line for stderr if that is a terminal. The work ends with the
// input in.
func (t *terminal) newProgress(in io.Reader) *progress {
	p := &progress{since: t.now()}
	f, ok := t.stderr.(*os.File)
	if !ok || !isTerminal(f) || os.Getenv("TERM") == "dumb" {
		return p
	}
	p.out, p.paint, p.width = f, t.err, defaultWidth
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

// showLines draws the line anew.
func (p *progress) showLines(now time.Time, done, failed, read int64) {
	elapsed := now.Sub(p.since)
	if p.out == nil || elapsed < progressAfter {
		return
	}
	parts := []string{countNoun(done, "line") + " sent"}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	parts = append(parts, fmt.Sprintf("%.0f/s", float64(done+failed)/elapsed.Seconds()), spanWords(elapsed))
	if p.total > 0 {
		parts = append(parts, fmt.Sprintf("%d%%", min(100*read/p.total, 100)))
	}
	text := shortenText(strings.Join(parts, " · "), p.width-1) // a full line would wrap
	_, _ = fmt.Fprint(p.out, "\r\x1b[K"+p.paint.dimText(text))
	p.shown = true
}

// clearLine removes the line, so that something else can be printed.
func (p *progress) clearLine() {
	if p.shown {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
