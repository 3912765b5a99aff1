package cli

import (
	"testing"
	"time"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

func TestARebalanceIsPrintedNowAndThen(t *testing.T) {
	part := func(surplus, moved int64, moving, lost bool) *controlv1.HubRebalance {
		return &controlv1.HubRebalance{
			Surplus: surplus, Moved: moved, Moving: moving, Unreachable: lost,
		}
	}
	report := func(
		done bool, hubs ...*controlv1.HubRebalance,
	) *controlv1.RebalanceHubsResponse {
		return &controlv1.RebalanceHubsResponse{Done: done, Hubs: hubs}
	}
	testkit.CompareGolden(t, "rebalance.txt", terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		now := terminaltest.Noon
		t.Now = func() time.Time { return now }
		for _, reports := range [][]*controlv1.RebalanceHubsResponse{
			{report(true)},
			{
				report(false, part(300, 0, true, false), part(40, 0, true, false)),
				report(false, part(300, 50, true, false), part(40, 40, false, false)), // too soon
				report(false, part(300, 250, true, false), part(40, 40, false, false)),
				report(true, part(300, 300, false, false), part(40, 40, false, false)),
			},
			{
				report(false, part(300, 7, true, false), part(40, 0, false, true)),
				report(true, part(300, 8, false, false), part(40, 0, false, true)),
			},
		} {
			p := &rebalancePrinter{reportPrinter: newReportPrinter(t, false)}
			for _, r := range reports {
				_ = p.printNext(r) // the terminal of a test takes everything
				now = now.Add(3 * time.Second)
			}
		}
	}))
}
