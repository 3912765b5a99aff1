package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/internal/testkit"
)

// logged is a line of the log, as far as a test looks at it.
type logged struct {
	Msg, Cause, Reason string
	More, Lines        int
}

func loggedLines(t *testing.T, text string) (lines []logged) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l logged
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, l)
	}
	return lines
}

// countLines counts the lines with a message and a cause, and those that were left out of them.
func countLines(lines []logged, message, cause string) (written, more int) {
	for _, l := range lines {
		switch {
		case l.Msg != message || l.Cause != cause:
		case l.More > 0:
			more += l.More
		default:
			written++
		}
	}
	return written, more
}

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	to   testkit.LockedBuffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.to.Write(p)
}

func TestStuckLogHoldsNoConnectionUpAndCountsThemAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hub.DefaultConfig()
		c.ID = hub.NewID()
		h, err := hub.New(c)
		if err != nil {
			t.Fatal(err)
		}
		connection, err := h.Attach(t.Context(), hub.Admission{
			Namespace: "default", Protocol: framing.WebSocket(plain.Protocol{}),
		})
		if err != nil {
			t.Fatal(err)
		}
		out := &gate{open: make(chan struct{})}
		log := Open(out, Format{})
		l := CloseLog{Logger: log.Logger}
		const closed = 5000
		for range closed {
			l.Applied(connection, hub.Op{Kind: hub.OpClose, Close: cause.Shutdown.CloseStatus()})
			l.Applied(connection, hub.Op{Kind: hub.OpJoin, Group: "blue"}) // not a line
		}
		synctest.Wait() // the writer is stuck in the gate
		close(out.open)
		log.Close()

		if lines, more := countLines(
			loggedLines(t, out.to.String()), "connection closed", "shutdown",
		); lines+more != closed || lines != logLinesPerWindow {
			t.Errorf("%d lines and %d more, want %d in all", lines, more, closed)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLinesBeyondTheRateOfTheirCauseAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out testkit.LockedBuffer
		log := Open(&out, Format{})
		closed := func(cause, reason string) {
			log.Info(
				"connection closed", slog.String("reason", reason), slog.String("cause", cause),
			)
		}
		const seconds, each = 3, 1000
		for range seconds {
			for range each {
				// the reason is the client's, and no cause
				closed("client", rapid.String().Example())
			}
			closed("lost", "")
			time.Sleep(logWindow)
			synctest.Wait()
		}
		lines := loggedLines(t, out.String())
		if written, more := countLines(
			lines, "connection closed", "client",
		); written != seconds*logLinesPerWindow || written+more != seconds*each {
			t.Errorf("%d written and %d more", written, more)
		}
		if written, more := countLines(lines, "connection closed", "lost"); written != seconds ||
			more != 0 {
			t.Errorf("of the cause that is rare: %d written and %d more", written, more)
		}
		if most := seconds * (logLinesPerWindow + 1 + 1); len(lines) > most {
			t.Errorf("%d lines, want at most %d", len(lines), most)
		}

		// A flood that is under way at the end is counted at the end.
		for range each {
			closed("client", "")
		}
		log.Close()
		if written, more := countLines(
			loggedLines(t, out.String()), "connection closed", "client",
		); written+more != (seconds+1)*each {
			t.Errorf("%d written and %d more at the end", written, more)
		}
	})
}

func TestCausesThatStrangersMakeUpAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := Open(io.Discard, Format{})
		for i := range 10 * logCauses {
			log.Info("made up", slog.String("cause", strings.Repeat("x", i)), slog.Any(
				"error", errors.New("x"),
			))
		}
		for i := range 10 * logCauses {
			log.Info("made up", slog.String("reason", string(rune('a'+i))))
		}
		log.rates.mu.Lock()
		causes := len(log.rates.causes)
		log.rates.mu.Unlock()
		if most := logCauses + 2; causes > most { // beyond the bound, each place is a cause
			t.Errorf("%d causes, want at most %d", causes, most)
		}
		time.Sleep(3 * logWindow)
		synctest.Wait()
		log.rates.mu.Lock()
		causes = len(log.rates.causes)
		log.rates.mu.Unlock()
		if causes != 0 {
			t.Errorf("%d causes are still known", causes)
		}
		log.Close()
	})
}

// failing is a writer that fails until it is mended.
type failing struct {
	mended bool
	to     bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	if !f.mended {
		return 0, errors.New("no space left on device")
	}
	return f.to.Write(p)
}

func TestLinesThatCannotBeWrittenAreCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &failing{}
		log := Open(out, Format{})
		for range 7 {
			log.Info("lost")
		}
		synctest.Wait()
		if n := log.out.linesLost(); n != 7 {
			t.Errorf("%d lines lost", n)
		}
		out.mended = true
		log.Info("written")
		log.Close()
		lines := loggedLines(t, out.to.String())
		if len(lines) != 2 || lines[0].Msg != "written" ||
			lines[1].Msg != "lines of this log were lost" || lines[1].Lines != 7 {
			t.Errorf("%+v", lines)
		}
	})
}

func TestQueueOfTheLogIsBounded(t *testing.T) {
	for name, line := range map[string]string{
		"long lines": strings.Repeat("x", 10_000) + "\n", "short lines": "x\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &gate{open: make(chan struct{})}
				w := newLogWriter(out, func(int64) []byte { return nil })
				const written = 3 * logQueueLines
				for range written {
					if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
						t.Fatal(n, err)
					}
				}
				w.mu.Lock()
				lines, size := len(w.queue), w.bytes
				w.mu.Unlock()
				if lines > logQueueLines || size > logQueueBytes {
					t.Errorf("%d lines, %d bytes", lines, size)
				}
				close(out.open)
				w.Close()
				if got := strings.Count(out.to.String(), "\n"); got+int(w.linesLost()) != written ||
					got < lines {
					t.Errorf("%d written, %d lost, of %d", got, w.linesLost(), written)
				}
			})
		})
	}
}

func TestEndOfALogWaitsForItsReaderButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &gate{open: make(chan struct{})}
		log := Open(out, Format{})
		log.Info("stuck")
		began := time.Now()
		log.Close()
		if took := time.Since(began); took != logFlushGrace {
			t.Errorf("took %v", took)
		}
		close(out.open)
	})
}

func TestTextsInTheLogAreBoundedAndEscapedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringN(-1, -1, 3*logTextBytes),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 3*logTextBytes), func(b []byte) string {
				return string(b)
			}),
			rapid.Just(strings.Repeat("\x01", 120)),
		).Draw(t, "text")
		got := logText(text, logTextBytes)
		const note = len("… (4096 bytes more)")
		if len(got) > logTextBytes+note ||
			!utf8.ValidString(got) || strings.ContainsFunc(got, unfitForLog) {
			t.Fatalf("%q", got)
		}
		if len(text) <= logTextBytes &&
			utf8.ValidString(text) && !strings.ContainsFunc(text, unfitForLog) && got != text {
			t.Fatalf("%q was changed to %q", text, got)
		}
		// Each format escapes the remaining text once: reading the line gives it back.
		var out bytes.Buffer
		logger := slog.New(textHandler{newFormat(&out, Format{})})
		logger.Info(text, slog.String("reason", text), //nolint:sloglint // as net/http logs
			slog.Any("error", errors.New(text)))
		var line map[string]string
		if err := json.Unmarshal(out.Bytes(), &line); err != nil ||
			line["msg"] != got || line["reason"] != got || line["error"] != got {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
		if most := 3 * 2 * (logTextBytes + 100); out.Len() > most {
			t.Fatalf("%d bytes, want at most %d", out.Len(), most)
		}
	})
}

func TestStackInTheLogHasItsLines(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(textHandler{newFormat(&out, Format{})})
	stack := strings.Repeat("goroutine 1 [running]:\n\tmain.go:1\n", 100)
	logger.With("stack", stack).WithGroup("g").Error("panicked", slog.String("stack", stack),
		slog.Any("panic", nil), slog.Any("fields", map[string]any{"n": 1}))
	var line struct {
		Stack string
		G     struct {
			Stack  string
			Fields map[string]int
		}
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil ||
		line.Stack != stack || line.G.Stack != stack || line.G.Fields["n"] != 1 {
		t.Errorf("%v: %s", err, out.Bytes())
	}
}
