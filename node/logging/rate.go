package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logWindow is the time in which lines of the same cause are counted together.
const logWindow = time.Second

const (
	// logLinesPerWindow is how many lines of a cause are written in a window. Strangers can cause a
	// hundred times as many.
	logLinesPerWindow = 20
	// logCauses bounds the number of causes. Beyond it, all causes at a place in the code count as
	// the same.
	logCauses = 512
	// logCauseBytes is the number of bytes of a cause's text that count.
	logCauseBytes = 64
)

// moreKey is the attribute with the number of lines that a line stands for.
const moreKey = "more"

// logRates bounds the lines of each cause. A cause is a place in the code together with the
// attribute "cause" of the line, or else its "reason". Lines beyond [logLinesPerWindow] are
// counted, and at the end of each window a single line stands for them. No count is lost: the
// written lines and the counts in them add up. All methods may be called concurrently.
type logRates struct {
	// Static after newLogRates.
	next  slog.Handler
	wake  chan struct{} // has room for a single signal: a line was counted
	quit  chan struct{}
	ended chan struct{}

	mu     sync.Mutex
	causes map[logCause]*logRate
	closed bool
}

type logCause struct {
	place uintptr // in the code
	level slog.Level
	text  string
}

// logRate counts the lines of a cause since began.
type logRate struct {
	began   time.Time
	written int

	more int64       // left out
	last slog.Record // of these, without attributes
}

// newLogRates starts the goroutine that writes how many lines were left out. It writes to next.
// Close ends it.
func newLogRates(next slog.Handler) *logRates {
	r := &logRates{
		next: next, wake: make(chan struct{}, 1), quit: make(chan struct{}),
		ended:  make(chan struct{}),
		causes: make(map[logCause]*logRate),
	}
	go r.windowLoop()
	return r
}

// admitLine reports whether a line is to be written. It counts the line otherwise.
func (r *logRates) admitLine(line *slog.Record) bool {
	cause := causeOf(line)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return true
	}
	rate, known := r.causes[cause]
	if !known && len(r.causes) >= logCauses {
		cause.text = ""
		rate, known = r.causes[cause]
	}
	switch {
	case !known:
		rate = &logRate{began: line.Time}
		r.causes[cause] = rate
	case rate.more == 0 && line.Time.Sub(rate.began) >= logWindow:
		rate.began, rate.written = line.Time, 0
	}
	r.wakeUp()
	if rate.written < logLinesPerWindow {
		rate.written++
		return true
	}
	rate.more++
	rate.last = slog.NewRecord(line.Time, line.Level, line.Message, line.PC)
	return false
}

func (r *logRates) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func causeOf(line *slog.Record) logCause {
	cause := logCause{place: line.PC, level: line.Level}
	line.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() != slog.KindString {
			return true
		}
		switch a.Key {
		case "cause":
			cause.text = a.Value.String()
			return false
		case "reason":
			cause.text = a.Value.String()
		}
		return true
	})
	cause.text = cause.text[:min(len(cause.text), logCauseBytes)]
	return cause
}

// Close writes the counts and ends the goroutine. All later lines are written.
func (r *logRates) Close() {
	close(r.quit)
	<-r.ended
}

func (r *logRates) windowLoop() {
	defer close(r.ended)
	for {
		select {
		case <-r.wake:
		case <-r.quit:
			r.endWindow(true)
			return
		}
		select {
		case <-time.After(logWindow):
		case <-r.quit:
		}
		r.endWindow(false)
	}
}

// endWindow writes a line for each cause with left-out lines, and forgets the causes without lines.
func (r *logRates) endWindow(last bool) {
	now := time.Now()
	var lines []slog.Record
	r.mu.Lock()
	for cause, rate := range r.causes {
		if rate.more > 0 {
			if cause.text != "" {
				rate.last.AddAttrs(slog.String("cause", cause.text))
			}
			rate.last.AddAttrs(slog.Int64(moreKey, rate.more))
			lines = append(lines, rate.last)
			rate.more, rate.began, rate.written = 0, now, 0
		} else if now.Sub(rate.began) >= logWindow {
			delete(r.causes, cause)
		}
	}
	if len(r.causes) > 0 {
		r.wakeUp()
	}
	r.closed = r.closed || last
	r.mu.Unlock()
	for _, line := range lines {
		_ = r.next.Handle(context.Background(), line) // a logWriter never fails
	}
}

// ratedHandler passes on the lines that their rates admit.
type ratedHandler struct {
	slog.Handler

	rates *logRates
}

var _ slog.Handler = ratedHandler{}

// Handle implements slog.Handler.
func (h ratedHandler) Handle(ctx context.Context, line slog.Record) error {
	if !h.rates.admitLine(&line) {
		return nil
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h ratedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return ratedHandler{h.Handler.WithAttrs(attrs), h.rates}
}

// WithGroup implements slog.Handler.
func (h ratedHandler) WithGroup(name string) slog.Handler {
	return ratedHandler{h.Handler.WithGroup(name), h.rates}
}
