package logging

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// Bounds of the queue, which holds the lines while the reader of the log is slow. The lines beyond
// it are lost.
const (
	logQueueBytes = 1 << 20
	logQueueLines = 8192 // for short lines; each costs some memory beside its text
)

const (
	// logFlushGrace bounds the wait of a hub's end for the reader of its log.
	logFlushGrace = 500 * time.Millisecond
	// logLostPause is the least time between two lines with the number of lost lines.
	logLostPause = time.Second
)

// logWriter writes the output of a hub process: the lines of its log, and the banner and notes of
// `dev`. Write never waits and never fails. A line that finds no room, or that can't be written, is
// lost and counted.
//
// Problem: callers log under locks and in the middle of calls. If the reader stops, a full pipe
// must not stop the hub. If the reader is gone, that must not end the hub.
//
// Outline: Write puts a line in a bounded queue, and a goroutine writes. When it can write again
// after a loss, it writes how many lines are missing. All methods may be called concurrently.
type logWriter struct {
	// Static after newLogWriter.
	to       io.Writer
	lostLine func(lines int64) []byte
	wake     chan struct{} // has room for a single signal: a line was queued, or closed was set
	ended    chan struct{}

	// Owned by run.
	told   int64     // of lost, how many the log has been told of
	toldAt time.Time // when it was last

	mu     sync.Mutex
	queue  []logLine
	bytes  int // of queue
	lost   int64
	closed bool
}

// logLine is a line, or several lines for a terminal, written as a whole.
type logLine struct {
	to   io.Writer
	text []byte
}

// newLogWriter starts the goroutine that writes; Close ends it. lostLine makes the line with the
// number of lost lines. An empty line is not written.
func newLogWriter(to io.Writer, lostLine func(lines int64) []byte) *logWriter {
	w := &logWriter{
		to: to, lostLine: lostLine, wake: make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
	go w.writeLoop()
	return w
}

// Write queues a line. It keeps no reference to it.
func (w *logWriter) Write(line []byte) (int, error) {
	w.enqueueLine(w.to, line)
	return len(line), nil
}

// outletTo returns a writer to another destination through the same queue, so its lines keep their
// order with the lines of the log.
func (w *logWriter) outletTo(to io.Writer) io.Writer { return &logOutlet{w, to} }

// logOutlet is a second way out of a logWriter.
type logOutlet struct {
	log *logWriter
	to  io.Writer
}

func (o *logOutlet) Write(text []byte) (int, error) {
	o.log.enqueueLine(o.to, text)
	return len(text), nil
}

func (w *logWriter) enqueueLine(to io.Writer, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.queue) >= logQueueLines || w.bytes+len(text) > logQueueBytes {
		w.lost++
		return
	}
	w.queue = append(w.queue, logLine{to, bytes.Clone(text)})
	w.bytes += len(text)
	w.wakeUp()
}

func (w *logWriter) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// linesLost returns the number of lines lost since the start.
func (w *logWriter) linesLost() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Close waits until everything is written, at most [logFlushGrace]. The goroutine may outlive it in
// a blocked write, which ends with the process.
func (w *logWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.wakeUp()
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-time.After(logFlushGrace):
	}
}

func (w *logWriter) writeLoop() {
	defer close(w.ended)
	for range w.wake {
		for {
			line, ok := w.nextLine()
			if !ok {
				break
			}
			w.writeLine(line)
		}
		w.mu.Lock()
		closed := w.closed
		w.mu.Unlock()
		if closed { // and so the queue is empty for good
			w.tellLost(0)
			return
		}
	}
}

func (w *logWriter) nextLine() (line logLine, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue = nil // releases the memory of a burst
		return logLine{}, false
	}
	line, w.queue = w.queue[0], w.queue[1:]
	w.bytes -= len(line.text)
	return line, true
}

func (w *logWriter) writeLine(line logLine) {
	if _, err := line.to.Write(line.text); err != nil {
		w.mu.Lock()
		w.lost++
		w.mu.Unlock()
		return
	}
	w.tellLost(logLostPause)
}

// tellLost writes how many lines were lost since it last did. It does so at most once in a pause.
func (w *logWriter) tellLost(pause time.Duration) {
	lost := w.linesLost()
	if lost == w.told || time.Since(w.toldAt) < pause {
		return
	}
	if _, err := w.to.Write(w.lostLine(lost - w.told)); err == nil {
		w.told, w.toldAt = lost, time.Now()
	}
}
