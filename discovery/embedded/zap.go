//go:build !no_embedded_etcd

package embedded

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapToSlog passes etcd's log on at Debug, because it means little to users of connhub. Lines from
// DPanic up are passed on at Error: after them etcd can't go on.
type zapToSlog struct{ log *slog.Logger }

var _ zapcore.Core = zapToSlog{}

// Enabled implements zapcore.LevelEnabler.
func (z zapToSlog) Enabled(l zapcore.Level) bool {
	return l >= zapcore.DPanicLevel ||
		l > zapcore.DebugLevel && z.log.Enabled(context.Background(), slog.LevelDebug)
}

// With implements zapcore.Core.
func (z zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return zapToSlog{log: z.log.With("etcd_context", decodeFields(fields))}
}

// Check implements zapcore.Core.
func (z zapToSlog) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return checked.AddCore(e, z)
	}
	return checked
}

// Write implements zapcore.Core.
func (z zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelDebug
	if e.Level >= zapcore.DPanicLevel {
		level = slog.LevelError
	}
	z.log.Log(context.Background(), level, "etcd says",
		"message", e.Message, "severity", e.Level.String(), "fields", decodeFields(fields))
	return nil
}

// Sync implements zapcore.Core.
func (z zapToSlog) Sync() error { return nil }

func decodeFields(fields []zapcore.Field) map[string]any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	return encoder.Fields
}
