package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

func TestLogsAreJSONLinesWhereNobodyWatches(t *testing.T) {
	var out testkit.LockedBuffer
	log := openLog(&out, "auto", slog.LevelInfo)
	log.Debug("hidden")
	log.Info("shown", slog.Duration("took", 1500*time.Millisecond))
	log.Close()
	var line map[string]any
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil ||
		line["msg"] != "shown" || line["took"] != "1.5s" {
		t.Errorf("%s (%v)", out.String(), err)
	}
	var people testkit.LockedBuffer
	log = openLog(&people, "text", slog.LevelInfo)
	log.Info("shown", slog.Int("n", 1))
	log.Close()
	if got := people.String(); !strings.HasSuffix(got, " INF shown n=1\n") {
		t.Errorf("text: %q", got)
	}
}
