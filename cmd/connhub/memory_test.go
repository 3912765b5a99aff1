package main

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
)

func TestDefaultBudgetsAreAShareOfTheMemoryLimit(t *testing.T) {
	h, e := hub.DefaultConfig(), edge.DefaultConfig()
	rapid.Check(t, func(t *rapid.T) {
		// A hub that holds nothing takes more than 40 MiB.
		m := memory{rapid.OneOf(rapid.Int64Range(64<<20, 8<<30),
			rapid.Int64Range(64<<20, math.MaxInt64)).Draw(t, "limit"), "test"}
		b := m.defaultBudgets()
		// Below 256 MiB the least that calls need is more than their share.
		if m.checkBudgets(b) != nil || m.isTight(b) && m.limit >= 256<<20 {
			t.Errorf("of %s the budgets are %+v", formatMebibytes(m.limit), b)
		}
		if b.held > h.HeldBytes || b.inbound > e.InboundBytes ||
			b.ids > h.RequestIDs || b.namespaceHeld > b.held && b.held >= 16<<20 {
			t.Errorf("more than on a large machine: %+v", b)
		}
	})
	large := budgets{
		h.HeldBytes, h.NamespaceHeldBytes,
		e.InboundBytes, control.DefaultConfig().CallBytes, h.RequestIDs,
	}
	if b := (memory{4 << 30, "test"}).defaultBudgets(); b != large {
		t.Errorf("with 4 GiB: %+v, want those of the packages, %+v", b, large)
	}
}

func TestBudgetsAboveTheMemoryLimitAreRefused(t *testing.T) {
	t.Setenv("CONNHUB_HELD_BYTES", "1024GiB") // no machine that runs this has so much
	c, err := parse(t, "serve", "--insecure-dev", "--single-hub")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Serve.planHub()
	if err == nil || !strings.Contains(err.Error(), "above the memory limit of") ||
		!strings.Contains(err.Error(), "--held-bytes 1024GiB") {
		t.Errorf("got %v", err)
	}
}

func TestANamespaceHasHalfOfWhatTheHubHoldsUnlessAFlagSaysMore(t *testing.T) {
	for _, c := range []struct {
		flags           []string
		held, namespace int64
	}{
		{[]string{"--held-bytes=64MiB"}, 64 << 20, 32 << 20},
		{[]string{"--held-bytes=64MiB", "--namespace-held-bytes=50MiB"}, 64 << 20, 50 << 20},
	} {
		p := planServe(t, append(c.flags, "--insecure-dev", "--single-hub")...)
		if p.hub.HeldBytes != c.held || p.hub.NamespaceHeldBytes != c.namespace {
			t.Errorf("%q: %d and %d", c.flags, p.hub.HeldBytes, p.hub.NamespaceHeldBytes)
		}
	}
}

func TestBudgetsThatLeaveLittleAreTheProblemOfTheLineAboutMemory(t *testing.T) {
	for limit, level := range map[int64]string{4 << 30: "INFO", 128 << 20: "WARN"} {
		p := planServe(t, "--insecure-dev", "--single-hub",
			"--held-bytes=64MiB", "--call-bytes=32MiB", "--inbound-bytes=16MiB")
		p.memory.limit = limit
		var log bytes.Buffer
		p.logMemory(slog.New(slog.NewJSONHandler(&log, nil)))
		lines := loggedLines(t, log.String())
		told := strings.Contains(log.String(), `"problem":"the budgets together are above half`)
		if len(lines) != 1 || lines[0].Msg != "memory" || !strings.Contains(log.String(), level) ||
			told != (level == "WARN") {
			t.Errorf("of %s: %s", formatMebibytes(limit), &log)
		}
	}
}
