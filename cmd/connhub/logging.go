package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/grpclog"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/hub"
)

// hubLog is the log of a hub process. A line passes three stages: [logRates] bounds its rate,
// [textHandler] bounds its texts, and [logWriter] writes it without blocking the caller.
type hubLog struct {
	*slog.Logger

	rates *logRates
	out   *logWriter
}

// openLog starts a log for people on a terminal, and JSON lines elsewhere, unless the format is
// given. Close ends it.
func openLog(w io.Writer, format string, level slog.Level) *hubLog {
	if format == "auto" {
		format = "json"
		if terminal.IsTerminal(w) {
			format = "text"
		}
	}
	colour := terminal.WantsColour(w)
	out := newLogWriter(w, func(lines int64) []byte {
		var line bytes.Buffer
		slog.New(newFormat(&line, format, level, colour)).Warn("lines of this log were lost",
			slog.Int64("lines", lines))
		return line.Bytes()
	})
	bounded := textHandler{newFormat(out, format, level, colour)}
	rates := newLogRates(bounded)
	return &hubLog{Logger: slog.New(ratedHandler{bounded, rates}), rates: rates, out: out}
}

func newFormat(w io.Writer, format string, level slog.Level, colour bool) slog.Handler {
	if format == "text" {
		return tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly,
			NoColor: !colour,
		})
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration { // "1.5s" and not nanoseconds without a unit
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		},
	})
}

// gatherLibraries makes libraries with a log of their own write to this log. It is for the start of
// a process.
func (l *hubLog) gatherLibraries() {
	slog.SetDefault(l.Logger) // and with it package log
	// otherwise gRPC is looked into, and says much
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		errs := slog.NewLogLogger(l.Handler(), slog.LevelError).Writer()
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, errs))
	}
}

// Close writes the queued lines, as far as the log's reader takes them in [logFlushGrace].
func (l *hubLog) Close() {
	l.rates.Close()
	l.out.Close()
}

// writeCounts writes how many lines the log has left out up to now.
func (l *hubLog) writeCounts() { l.rates.endWindow(false) }

// registerMetrics adds the log's instrument to r.
func (l *hubLog) registerMetrics(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "connhub_log_lines_lost_total",
		Help: "Lines of the log that could not be written, or for which there was no room while " +
			"its reader was behind.",
	}, func() float64 { return float64(l.out.linesLost()) }))
}

// closeLog writes a summary line for each closed connection, within the log's rates.
type closeLog struct{ logger *slog.Logger }

// Applied is called by the hub under the connection's lock. The log does not block it.
func (l closeLog) Applied(c *hub.Connection, op hub.Op) {
	if op.Kind != hub.OpClose {
		return
	}
	identity := c.Identity()
	l.logger.Info("connection closed",
		slog.String("connection", string(identity.ID)),
		slog.String("namespace", identity.Namespace),
		slog.String("user", identity.User),
		slog.String("protocol", identity.Protocol),
		slog.String("remote_address", identity.RemoteAddress),
		slog.Duration("lasted", time.Since(identity.Created).Round(time.Millisecond)),
		slog.String("cause", op.Close.Cause.String()),
		slog.Int("code", int(op.Close.Code)),
		slog.String("reason", op.Close.Reason))
}
