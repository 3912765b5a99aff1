package cli

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubsRebalanceCmd struct {
	dial.Flags
}

// Help is shown by --help below the usage.
func (hubsRebalanceCmd) Help() string {
	return `Moves connections from hubs that hold over a tenth more than the mean to hubs below the
mean, for instance when a hub was added. Each full hub moves at most 100 connections a second, for
10 minutes at most, and only those that clients can resume. Hubs that drain take no part. Clients
come back where their balancer sends them: it should prefer hubs with few connections.

Ctrl-C ends this command only: the moves go on. The same command follows them again. With --json
each line is a report of the API.`
}

// Run balances the hubs, and follows the moves until their end.
func (c *hubsRebalanceCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return c.WithClient(func(hub *dial.Client) error {
		p := &rebalancePrinter{reportPrinter: newReportPrinter(t, c.JSON)}
		err := followReports(ctx, hub, func(
			ctx context.Context,
		) (grpc.ServerStreamingClient[controlv1.RebalanceHubsResponse], error) {
			return controlv1.NewHubServiceClient(hub).RebalanceHubs(ctx,
				&controlv1.RebalanceHubsRequest{})
		}, p.printNext)
		p.clearLine()
		switch {
		case err == nil || p.last == nil || p.last.GetDone():
			return err
		case ctx.Err() != nil:
			return errors.New("interrupted: the hubs go on moving connections. To follow them: " +
				"connhub hubs rebalance")
		}
		return fmt.Errorf("%w. The hubs may still be moving connections", err)
	})
}

// rebalancePrinter prints the reports of a rebalance.
type rebalancePrinter struct {
	reportPrinter

	last *controlv1.RebalanceHubsResponse // nil: no report has come
}

func (p *rebalancePrinter) printNext(r *controlv1.RebalanceHubsResponse) error {
	isFresh := p.last == nil
	p.last = r
	return p.printReport(r, isFresh, r.GetDone(), func() string {
		if r.GetDone() {
			return p.doneWords(r)
		}
		return rebalanceWords(r)
	})
}

// sumMoves adds up the parts of all hubs.
func sumMoves(r *controlv1.RebalanceHubsResponse) (surplus, moved, moving, lost int64) {
	for _, h := range r.GetHubs() {
		surplus, moved = surplus+h.GetSurplus(), moved+h.GetMoved()
		if h.GetMoving() {
			moving++
		}
		if h.GetUnreachable() {
			lost++
		}
	}
	return surplus, moved, moving, lost
}

// rebalanceWords words a report of moves that go on.
func rebalanceWords(r *controlv1.RebalanceHubsResponse) string {
	surplus, moved, moving, lost := sumMoves(r)
	verb := "move"
	if moving == 1 {
		verb = "moves"
	}
	return fmt.Sprintf("%s %s connections · %d of %d moved%s",
		terminal.CountNoun(moving, "hub"), verb, moved, surplus, lostWords(lost))
}

// doneWords words the last report.
func (p *rebalancePrinter) doneWords(r *controlv1.RebalanceHubsResponse) string {
	check := p.t.Out.GreenText("✓")
	if len(r.GetHubs()) == 0 {
		return check + " no hub is full: nothing to move"
	}
	surplus, moved, _, lost := sumMoves(r)
	text := fmt.Sprintf("%s rebalanced: %s moved", check, terminal.CountNoun(moved, "connection"))
	if moved < surplus {
		text += fmt.Sprintf(", %d stayed", surplus-moved)
	}
	return text + lostWords(lost)
}

func lostWords(lost int64) string {
	if lost == 0 {
		return ""
	}
	return fmt.Sprintf(", %s did not answer", terminal.CountNoun(lost, "hub"))
}
