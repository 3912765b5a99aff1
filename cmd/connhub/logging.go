package main

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lmittmann/tint"

	"github.com/connhub/connhub/hub"
)

// newLogger logs for people on a terminal and JSON lines elsewhere, unless the format is given.
func newLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	if format == "text" || format == "auto" && isTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly, NoColor: !wantsColour(w),
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration { // "1.5s" and not nanoseconds without a unit
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		},
	}))
}

// closeLogQueue bounds the summaries that wait to be written. A hub that loses thousands of clients at once
// must not wait for its log.
const closeLogQueue = 4096

// closeLog writes one summary line per closed connection.
type closeLog struct {
	// Static after newCloseLog.
	logger *slog.Logger
	queue  chan closeSummary // never closed: a connection may close late
	quit   chan struct{}
	ended  chan struct{}

	dropped atomic.Int64 // summaries for which the queue had no room, since the last line about it
}

// sinks hands what happens in a hub on to several.
type sinks []hub.Sink

var _ hub.Sink = sinks(nil)

// Applied implements hub.Sink.
func (s sinks) Applied(c *hub.Connection, op hub.Op) {
	for _, one := range s {
		one.Applied(c, op)
	}
}

type closeSummary struct {
	identity hub.Identity
	close    hub.Close
	at       time.Time
}

var _ hub.Sink = (*closeLog)(nil)

// newCloseLog starts the goroutine that writes; Close ends it.
func newCloseLog(logger *slog.Logger) *closeLog {
	l := &closeLog{
		logger: logger,
		queue:  make(chan closeSummary, closeLogQueue),
		quit:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	go l.run()
	return l
}

// Applied is called by the hub under the connection's lock: it only queues.
func (l *closeLog) Applied(c *hub.Connection, op hub.Op) {
	if op.Kind != hub.OpClose {
		return
	}
	select {
	case l.queue <- closeSummary{c.Identity(), op.Close, time.Now()}:
	default:
		l.dropped.Add(1)
	}
}

// Close writes what waits and ends the goroutine. What comes later is lost.
func (l *closeLog) Close() {
	close(l.quit)
	<-l.ended
}

func (l *closeLog) run() {
	defer close(l.ended)
	for {
		select {
		case s := <-l.queue:
			l.write(s)
		case <-l.quit:
			for len(l.queue) > 0 {
				l.write(<-l.queue)
			}
			return
		}
	}
}

func (l *closeLog) write(s closeSummary) {
	l.logger.Info("connection closed",
		slog.String("connection", string(s.identity.ID)),
		slog.String("namespace", s.identity.Namespace),
		slog.String("user", s.identity.User),
		slog.String("protocol", s.identity.Protocol),
		slog.String("remote_address", s.identity.RemoteAddress),
		slog.Duration("lasted", s.at.Sub(s.identity.Created).Round(time.Millisecond)),
		slog.String("cause", s.close.Cause.String()),
		slog.Int("code", int(s.close.Code)),
		slog.String("reason", s.close.Reason))
	if n := l.dropped.Swap(0); n > 0 {
		l.logger.Warn("connections closed without a line here", slog.Int64("connections", n))
	}
}
