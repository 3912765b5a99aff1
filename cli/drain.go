package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubsDrainCmd struct {
	Hub string `arg:"" help:"Id or name of the hub, as in \"connhub hubs\"."`

	dial.Flags
}

// Help is shown by --help below the usage.
func (hubsDrainCmd) Help() string {
	return `Empties a hub: it turns unready, and serves on until balancers have noticed. Then it
moves the connections that clients can resume to other hubs. It closes its other clients, spread
over the period that it was started with. The drained hub stays unready until SIGTERM, which ends
it at once.

Ctrl-C ends this command only: the drain goes on. The same command follows it again. A hub that
drains knows hubs by their ids only: to ask it, give the id. With --json each line is a report of
the API.`
}

// Run drains the hub, and follows the drain until its end.
func (c *hubsDrainCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return c.WithClient(func(hub *dial.Client) error {
		id, listed, err := c.findHub(ctx, hub)
		if err != nil {
			return err
		}
		p := &drainPrinter{
			reportPrinter: newReportPrinter(t, c.JSON), hub: terminal.MakePrintable(c.Hub),
		}
		err = followReports(ctx, hub, func(
			ctx context.Context,
		) (grpc.ServerStreamingClient[controlv1.DrainHubResponse], error) {
			return controlv1.NewHubServiceClient(hub).DrainHub(ctx,
				&controlv1.DrainHubRequest{HubId: id})
		}, p.printNext)
		p.clearLine()
		switch {
		case err == nil:
			return nil
		case !listed && dial.HasReason(err, controlv1.ErrorReason_ERROR_REASON_HUB_NOT_FOUND):
			return fmt.Errorf("the hub at %s drains, and knows hubs by their ids only: "+
				"give the id of %s, or name a different hub with --addr", c.Addr, p.hub)
		case p.last == nil:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted: hub %s goes on draining. To follow it: "+
				"connhub hubs drain %s", p.hub, terminal.MakePrintable(id))
		}
		return fmt.Errorf("%w. Hub %s may still be draining", err, p.hub)
	})
}

// findHub returns the id of the hub that the command line names. A hub that drains lists no hubs:
// then listed is false, and the name must be the id.
func (c *hubsDrainCmd) findHub(
	ctx context.Context, hub *dial.Client,
) (id string, listed bool, err error) {
	var list *controlv1.ListHubsResponse
	err = hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
		list, err = controlv1.NewHubServiceClient(hub).ListHubs(ctx, &controlv1.ListHubsRequest{})
		return err
	})
	if dial.HasReason(err, controlv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN) {
		return c.Hub, false, nil
	}
	if err != nil {
		return "", false, err
	}
	var named []string
	for _, h := range list.GetHubs() {
		if h.GetId() == c.Hub {
			return c.Hub, true, nil
		}
		if h.GetName() == c.Hub {
			named = append(named, h.GetId())
		}
	}
	switch len(named) {
	case 0:
		return "", false, fmt.Errorf("no hub has the id or name %s: see connhub hubs",
			terminal.MakePrintable(c.Hub))
	case 1:
		return named[0], true, nil
	}
	return "", false, fmt.Errorf("%d hubs have the name %s: give the id (%s)", len(named),
		terminal.MakePrintable(c.Hub), strings.Join(named, ", "))
}

// drainPrinter prints the reports of a drain. A report of a new phase is fresh.
type drainPrinter struct {
	reportPrinter

	hub  string                      // as the operator calls it
	last *controlv1.DrainHubResponse // nil: no report has come
}

func (p *drainPrinter) printNext(r *controlv1.DrainHubResponse) error {
	isFresh := p.last == nil || r.GetPhase() != p.last.GetPhase()
	isLast := r.GetPhase() == controlv1.DrainPhase_DRAIN_PHASE_DRAINED
	p.last = r
	return p.printReport(r, isFresh, isLast, func() string {
		if isLast {
			return p.drainedWords(r)
		}
		return p.progressWords(r)
	})
}

// progressWords words a report of a drain that goes on.
func (p *drainPrinter) progressWords(r *controlv1.DrainHubResponse) string {
	what := "waits for balancers to notice"
	switch r.GetPhase() {
	case controlv1.DrainPhase_DRAIN_PHASE_DELAY:
	case controlv1.DrainPhase_DRAIN_PHASE_CLOSING:
		what = "moves and closes its clients"
	default:
		what = "drains" // a phase that this version does not know
	}
	return fmt.Sprintf("%s %s · %s left · %d moved · %d closed · at most %s", p.hub, what,
		terminal.CountNoun(r.GetConnections(), "connection"), r.GetMoved(), r.GetClosed(),
		terminal.SpanWords(r.GetTimeLeft().AsDuration().Round(time.Second)))
}

// drainedWords words the last report.
func (p *drainPrinter) drainedWords(r *controlv1.DrainHubResponse) string {
	text := fmt.Sprintf("%s %s is drained: %s moved, %d closed", p.t.Out.GreenText("✓"), p.hub,
		terminal.CountNoun(r.GetMoved(), "connection"), r.GetClosed())
	if r.GetConnections() > 0 {
		text += fmt.Sprintf(", %d left open", r.GetConnections())
	}
	return text
}
