package bench

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/connhub/connhub/cli/terminal"
)

// barWidth is the width of the bar in columns.
const barWidth = 24

// benchProgress is a line at the bottom of a terminal that shows the progress of each phase of a
// bench.
type benchProgress struct {
	line *terminal.Progress

	end     chan struct{} // ends the goroutine that draws; nil: there is none
	drawing sync.WaitGroup
}

func newBenchProgress(t *terminal.Terminal) *benchProgress {
	return &benchProgress{line: t.NewProgress(nil)}
}

// showPhase shows the next phase. now returns its progress, which ends at whole, and words for it.
func (p *benchProgress) showPhase(name string, whole float64, now func() (float64, string)) {
	p.stopDrawing()
	if !p.line.IsVisible() {
		return
	}
	end := make(chan struct{})
	p.end = end
	p.drawing.Go(func() {
		tick := time.NewTicker(terminal.ProgressEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				done, words := now()
				p.line.DrawLine(barLine(name, done, whole, words))
			}
		}
	})
}

// stopDrawing removes the line.
func (p *benchProgress) stopDrawing() {
	if p.end == nil {
		return
	}
	close(p.end)
	p.drawing.Wait()
	p.end = nil
	p.line.ClearLine()
}

// barLine formats a phase as a line.
func barLine(name string, done, whole float64, words string) string {
	part := 0.0
	if whole > 0 {
		part = min(max(done/whole, 0), 1)
	}
	full := int(part * barWidth)
	return fmt.Sprintf("%-10s %s%s %3.0f%%  %s", name, strings.Repeat("█", full),
		strings.Repeat("░", barWidth-full), 100*part, words)
}
