package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/plain"
)

func TestLogsAreJSONLinesWhereNobodyWatches(t *testing.T) {
	var out bytes.Buffer
	logger := newLogger(&out, "auto", slog.LevelInfo)
	logger.Debug("hidden")
	logger.Info("shown", slog.Duration("took", 1500*time.Millisecond))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "shown" || line["took"] != "1.5s" {
		t.Errorf("%s (%v)", out.String(), err)
	}
	out.Reset()
	newLogger(&out, "text", slog.LevelInfo).Info("shown", slog.Int("n", 1))
	if got := out.String(); !strings.HasSuffix(got, " INF shown n=1\n") {
		t.Errorf("text: %q", got)
	}
}

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	to   lockedBuffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.to.Write(p)
}

func TestStuckLogHoldsNoConnectionUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hub.DefaultConfig()
		c.ID = hub.NewID()
		h, err := hub.New(c)
		if err != nil {
			t.Fatal(err)
		}
		connection, err := h.Attach(t.Context(), hub.Admission{Namespace: "default", Protocol: plain.Protocol{}})
		if err != nil {
			t.Fatal(err)
		}
		out := &gate{open: make(chan struct{})}
		l := newCloseLog(newLogger(out, "json", slog.LevelInfo))
		const closed = closeLogQueue + 1000
		for range closed {
			l.Applied(connection, hub.Op{Kind: hub.OpClose, Close: hub.NewClose(hub.CauseShutdown)})
			l.Applied(connection, hub.Op{Kind: hub.OpJoin, Group: "blue"}) // not a line
		}
		synctest.Wait() // the writer is stuck in the gate
		close(out.open)
		l.Close()

		lines, missing := 0, 0
		for line := range strings.Lines(out.to.String()) {
			var attrs struct {
				Msg         string
				Connections int
			}
			if err := json.Unmarshal([]byte(line), &attrs); err != nil {
				t.Fatal(err)
			}
			if attrs.Msg == "connection closed" {
				lines++
			}
			missing += attrs.Connections
		}
		if lines+missing != closed || lines < closeLogQueue {
			t.Errorf("%d lines and %d counted as missing, want %d in all", lines, missing, closed)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
