package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

func TestADrainIsPrintedPhaseByPhase(t *testing.T) {
	report := func(
		phase controlv1.DrainPhase, left, moved, closed int64, rest time.Duration,
	) *controlv1.DrainHubResponse {
		return &controlv1.DrainHubResponse{
			Phase: phase, Connections: left, Moved: moved, Closed: closed,
			TimeLeft: durationpb.New(rest),
		}
	}
	const delay, closing, drained = controlv1.DrainPhase_DRAIN_PHASE_DELAY,
		controlv1.DrainPhase_DRAIN_PHASE_CLOSING, controlv1.DrainPhase_DRAIN_PHASE_DRAINED
	testkit.CompareGolden(t, "drain.txt", terminaltest.Render(false, func(t *terminal.Terminal) {
		now := terminaltest.Noon
		t.Now = func() time.Time { return now }
		for _, last := range []*controlv1.DrainHubResponse{
			report(drained, 0, 345, 12_000, 0), report(drained, 3, 1, 1, 0),
		} {
			p := &drainPrinter{reportPrinter: newReportPrinter(t, false), hub: "hub-0"}
			for _, r := range []*controlv1.DrainHubResponse{
				report(delay, 12_345, 0, 0, 35*time.Second),
				report(delay, 12_345, 0, 0, 34*time.Second),
				report(closing, 12_345, 0, 0, 30*time.Second),
				report(closing, 1, 345, 12_000, 25*time.Second),
				report(9, 1, 345, 12_000, 25*time.Second), // of a later version
				last,
			} {
				_ = p.printNext(r) // the terminal of a test takes everything
				now = now.Add(2 * time.Second)
			}
		}
	}))
}

func TestHubsDrainEmptiesAHubByNameAndTellsWhenItIsDone(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	client := testkit.DialClient(t, hub.Clients, "user=ann")
	addr := "--addr=" + hub.Control
	if r := program.Run(t, "", "hubs", "drain", "nobody", addr); r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "no hub has the id or name nobody") {
		t.Errorf("an unknown hub: exit %d, %s", r.Code, r.Stderr)
	}
	got := program.MustRun(t, "hubs", "drain", "test", addr)
	if !strings.HasSuffix(got, "✓ test is drained: 0 connections moved, 1 closed\n") {
		t.Errorf("printed %q", got)
	}
	if _, _, err := client.Read(t.Context()); websocket.CloseStatus(err) !=
		websocket.StatusGoingAway {
		t.Errorf("the client sees %v, want 1001", err)
	}
	// The hub that drains lists no hubs, and is known by its id only. The error says so, and not
	// that there is no such hub. --json has all reports.
	if r := program.Run(t, "", "hubs", "drain", "test", addr); r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "by their ids only: give the id of test") {
		t.Errorf("the name of a hub that drains: exit %d, %s", r.Code, r.Stderr)
	}
	id, _ := testkit.WaitForLog(t, hub.Log, "ready")["hub"].(string)
	out := program.MustRun(t, "hubs", "drain", id, addr, "--json")
	var r controlv1.DrainHubResponse
	if err := protojson.Unmarshal([]byte(out), &r); err != nil || strings.Count(out, "\n") != 1 ||
		r.GetPhase() != controlv1.DrainPhase_DRAIN_PHASE_DRAINED || r.GetClosed() != 1 {
		t.Errorf("--json: %s, %v", out, err)
	}
}
