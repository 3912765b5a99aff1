package limits

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
		m := Memory{rapid.OneOf(rapid.Int64Range(64<<20, 8<<30),
			rapid.Int64Range(64<<20, math.MaxInt64)).Draw(t, "limit"), "test"}
		b := m.DefaultBudgets()
		// Below 256 MiB the least that calls need is more than their share.
		if !m.Fits(b) || m.isTight(b) && m.Limit >= 256<<20 {
			t.Errorf("of %s the budgets are %+v", FormatMebibytes(m.Limit), b)
		}
		if b.Held > h.HeldBytes || b.Inbound > e.InboundBytes ||
			b.RequestIDs > h.RequestIDs || b.NamespaceHeld > b.Held && b.Held >= 16<<20 {
			t.Errorf("more than on a large machine: %+v", b)
		}
	})
	large := Budgets{
		h.HeldBytes, h.NamespaceHeldBytes,
		e.InboundBytes, control.DefaultConfig().CallBytes, h.RequestIDs,
	}
	if b := (Memory{4 << 30, "test"}).DefaultBudgets(); b != large {
		t.Errorf("with 4 GiB: %+v, want those of the packages, %+v", b, large)
	}
}

func TestBudgetsThatLeaveLittleAreTheProblemOfTheLineAboutMemory(t *testing.T) {
	for limit, level := range map[int64]string{4 << 30: "INFO", 128 << 20: "WARN"} {
		m := Memory{limit, "test"}
		b := m.DefaultBudgets()
		b.Held, b.Calls, b.Inbound = 64<<20, 32<<20, 16<<20
		var log bytes.Buffer
		m.LogBudgets(slog.New(slog.NewJSONHandler(&log, nil)), b, m.DefaultHeap())
		lines := strings.Count(log.String(), `"msg":"memory"`)
		told := strings.Contains(log.String(), `"problem":"the budgets together are above half`)
		if lines != 1 || strings.Count(log.String(), "\n") != 1 ||
			!strings.Contains(log.String(), level) ||
			told != (level == "WARN") {
			t.Errorf("of %s: %s", FormatMebibytes(limit), &log)
		}
	}
}
