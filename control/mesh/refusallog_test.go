package mesh

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

func TestAHelloThatIsRefusedAgainAndAgainIsALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, nil))
		var l refusalLog
		const every = 5 * time.Second
		for range 10 * time.Minute / every {
			l.logRefusal(logger, "a", peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER)
			time.Sleep(every) // the bubble's clock
		}
		if lines := strings.Count(out.String(), "hello refused"); lines != 10 {
			t.Errorf("%d lines in 10 minutes, want 10:\n%s", lines, &out)
		}
		if !strings.Contains(out.String(), "repeats=12") {
			t.Errorf("no summary:\n%s", &out)
		}
		l.logRefusal(logger, "a", peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB)
		if !strings.Contains(out.String(), "reason=WRONG_HUB repeats=0") {
			t.Errorf("another reason is not told:\n%s", &out)
		}
	})
}
