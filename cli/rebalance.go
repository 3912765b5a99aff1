package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

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
		p := &rebalancePrinter{t: t, json: c.JSON}
		if !c.JSON {
			p.line = t.NewProgress(nil)
		}
		err := followReports(ctx, hub, func(
			ctx context.Context,
		) (grpc.ServerStreamingClient[controlv1.RebalanceHubsResponse], error) {
			return controlv1.NewHubServiceClient(hub).RebalanceHubs(ctx,
				&controlv1.RebalanceHubsRequest{})
		}, p.printReport)
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

// rebalancePrinter prints the reports of a rebalance: on a terminal as a line that changes, else as
// a line now and then.
type rebalancePrinter struct {
	t    *terminal.Terminal
	json bool
	line *terminal.Progress // nil: --json

	last  *controlv1.RebalanceHubsResponse
	shown time.Time // when the last line was printed
}

func (p *rebalancePrinter) printReport(r *controlv1.RebalanceHubsResponse) error {
	fresh := p.last == nil
	p.last = r
	switch {
	case p.json:
		return dial.PrintJSONLine(p.t, r)
	case r.GetDone():
		p.clearLine()
		return p.printLine(p.doneWords(r))
	case p.line.IsVisible():
		p.line.DrawLine(rebalanceWords(r))
	case fresh || p.t.Now().Sub(p.shown) >= progressLineEvery:
		p.shown = p.t.Now()
		return p.printLine(rebalanceWords(r))
	}
	return nil
}

func (p *rebalancePrinter) printLine(text string) error {
	_, err := fmt.Fprintln(p.t.Stdout, text)
	return err
}

// clearLine removes the line that changes.
func (p *rebalancePrinter) clearLine() {
	if p.line != nil {
		p.line.ClearLine()
	}
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
