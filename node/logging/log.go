package logging

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/grpclog"
)

// Log is the log of a hub process. A line passes three stages: [logRates] bounds its rate,
// [textHandler] bounds its texts, and [logWriter] writes it without blocking the caller.
type Log struct {
	*slog.Logger

	rates *logRates
	out   *logWriter
}

// Format is the form of the lines of a log.
type Format struct {
	Text   bool       // for people; otherwise JSON
	Colour bool       // text is coloured
	Level  slog.Level // the least level that is written
}

// Open starts a log that is written to w. Close ends it.
func Open(w io.Writer, format Format) *Log {
	out := newLogWriter(w, func(lines int64) []byte {
		var line bytes.Buffer
		slog.New(newFormat(&line, format)).Warn("lines of this log were lost",
			slog.Int64("lines", lines))
		return line.Bytes()
	})
	bounded := textHandler{newFormat(out, format)}
	rates := newLogRates(bounded)
	return &Log{Logger: slog.New(ratedHandler{bounded, rates}), rates: rates, out: out}
}

func newFormat(w io.Writer, format Format) slog.Handler {
	if format.Text {
		return tint.NewTextHandler(w, &tint.Options{
			Level: format.Level, TimeFormat: time.TimeOnly, NoColor: !format.Colour,
		})
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: format.Level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration { // "1.5s" and not nanoseconds without a unit
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		},
	})
}

// GatherLibraries makes libraries with a log of their own write to this log. It is for the start of
// a process.
func (l *Log) GatherLibraries() {
	slog.SetDefault(l.Logger) // and with it package log
	// otherwise gRPC is looked into, and says much
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		errs := slog.NewLogLogger(l.Handler(), slog.LevelError).Writer()
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errs))
	}
}

// Writer returns the writer of the log's lines, for text that is no line of it and must keep the
// order.
func (l *Log) Writer() io.Writer { return l.out }

// OutletTo returns a writer to another destination through the same queue.
func (l *Log) OutletTo(to io.Writer) io.Writer { return l.out.outletTo(to) }

// Close writes the queued lines, as far as the log's reader takes them in [logFlushGrace].
func (l *Log) Close() {
	l.rates.Close()
	l.out.Close()
}

// WriteCounts writes how many lines the log has left out up to now.
func (l *Log) WriteCounts() { l.rates.endWindow(false) }

// RegisterMetrics adds the log's instrument to r.
func (l *Log) RegisterMetrics(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "connhub_log_lines_lost_total",
		Help: "Lines of the log that could not be written, or for which there was no room while " +
			"its reader was behind.",
	}, func() float64 { return float64(l.out.linesLost()) }))
}
