package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// barWidth is how many columns the bar takes.
const barWidth = 24

// benchProgress is one line at the bottom of a terminal that shows how far each phase of a bench has come.
type benchProgress struct {
	line *progress

	end     chan struct{} // ends the goroutine that draws; nil: none does
	drawing sync.WaitGroup
}

func newBenchProgress(t *terminal) *benchProgress { return &benchProgress{line: t.newProgress(nil)} }

// showPhase shows another phase: now returns how far it is, until whole, and words.
func (p *benchProgress) showPhase(name string, whole float64, now func() (float64, string)) {
	p.stopDrawing()
	if p.line.out == nil {
		return
	}
	end := make(chan struct{})
	p.end = end
	p.drawing.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				done, words := now()
				p.line.drawLine(barLine(name, done, whole, words))
			}
		}
	})
}

// stopDrawing takes the line away.
func (p *benchProgress) stopDrawing() {
	if p.end == nil {
		return
	}
	close(p.end)
	p.drawing.Wait()
	p.end = nil
	p.line.clearLine()
}

// drawLine replaces the line.
func (p *progress) drawLine(text string) {
	_, _ = fmt.Fprint(p.out, "\r\x1b[K"+p.paint.dimText(shortenText(text, p.width-1))) // a full line would wrap
	p.shown = true
}

// barLine is a phase in one line.
func barLine(name string, done, whole float64, words string) string {
	part := 0.0
	if whole > 0 {
		part = min(max(done/whole, 0), 1)
	}
	full := int(part * barWidth)
	return fmt.Sprintf("%-10s %s%s %3.0f%%  %s", name, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), 100*part, words)
}
