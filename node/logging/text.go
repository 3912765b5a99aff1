package logging

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// logTextBytes bounds each text of a line. A text may come from a stranger, or be an error that
	// quotes a stranger. The bound has room for the longest name.
	logTextBytes = 1 << 10
	// logLongBytes bounds long texts of the hub itself: a stack, the effective configuration.
	logLongBytes = 16 << 10
)

// textHandler makes texts fit for a log before the format escapes them. It bounds them, and
// replaces characters that a terminal might obey or that change the direction of writing. Strangers
// choose close reasons, names, paths and parts of many errors, so this holds for every text of
// every line, at all levels.
type textHandler struct{ slog.Handler }

var _ slog.Handler = textHandler{}

// Handle implements slog.Handler.
func (h textHandler) Handle(ctx context.Context, line slog.Record) error {
	safe := slog.NewRecord(line.Time, line.Level, logText(line.Message, logTextBytes), line.PC)
	line.Attrs(func(a slog.Attr) bool {
		safe.AddAttrs(safeAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, safe)
}

// WithAttrs implements slog.Handler.
func (h textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	safe := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		safe = append(safe, safeAttr(a))
	}
	return textHandler{h.Handler.WithAttrs(safe)}
}

// WithGroup implements slog.Handler.
func (h textHandler) WithGroup(name string) slog.Handler {
	return textHandler{h.Handler.WithGroup(name)}
}

func safeAttr(a slog.Attr) slog.Attr {
	most := logTextBytes
	if a.Key == "stack" {
		most = logLongBytes
	}
	a.Value = safeValue(a.Value.Resolve(), most)
	return a
}

func safeValue(v slog.Value, most int) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(logText(v.String(), most))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case nil:
			return v
		case error:
			return slog.StringValue(logText(x.Error(), most))
		default:
			text := fmt.Sprint(x)
			if safe := logText(text, most); safe != text {
				return slog.StringValue(safe)
			}
			return v // the format shows its parts
		}
	case slog.KindGroup: // the configuration: the operator's own
		attrs := make([]slog.Attr, 0, len(v.Group()))
		for _, a := range v.Group() {
			attrs = append(attrs, slog.Attr{
				Key:   a.Key,
				Value: safeValue(a.Value.Resolve(), logLongBytes),
			})
		}
		return slog.GroupValue(attrs...)
	default:
		return v
	}
}

// logText returns text in at most the given number of bytes, plus a note of how much was cut.
func logText(text string, most int) string {
	if len(text) <= most && !strings.ContainsFunc(text, unfitForLog) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if unfitForLog(r) {
			r = unicode.ReplacementChar
		}
		if b.Len()+utf8.RuneLen(r) > most {
			_, _ = fmt.Fprintf(&b, "… (%d bytes more)", len(text)-i)
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unfitForLog reports whether a log should not show r. The formats escape line ends and tabs.
func unfitForLog(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
