package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type connectionsCmd struct {
	List  connectionsListCmd  `cmd:"" default:"withargs" help:"List connections: all, or those of a target."`
	Get   connectionsGetCmd   `cmd:"" help:"Show one connection."`
	Close connectionsCloseCmd `cmd:"" help:"Close connections."`
}

type connectionsListCmd struct {
	TargetFlags

	Limit int `default:"100" placeholder:"N" help:"Longest list; 0 lists all. (${default})"`

	dial.Flags
}

func (c *connectionsListCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if c.isEmpty() {
		c.Everyone = true // listing changes nothing
	}
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	return c.WithClient(func(hub *dial.Client) error {
		all := &controlv1.ListConnectionsResponse{}
		more, err := dial.CollectPages(c.Limit, func(
			size int32, token string,
		) (string, int, error) {
			var page *controlv1.ListConnectionsResponse
			err := hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
				page, err = controlv1.NewConnectionServiceClient(hub).ListConnections(ctx,
					&controlv1.ListConnectionsRequest{
						Namespace: c.Namespace, Target: target, PageSize: size, PageToken: token,
					})
				return err
			})
			all.Connections = append(all.Connections, page.GetConnections()...)
			all.NextPageToken = page.GetNextPageToken()
			all.UnreachableHubs, all.DiscoveryStaleFor = dial.AddHubs(all.GetUnreachableHubs(),
				page.GetUnreachableHubs()), page.GetDiscoveryStaleFor()
			return page.GetNextPageToken(), len(page.GetConnections()), err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return dial.PrintJSON(t, all)
		case len(all.GetConnections()) == 0:
			t.PrintNote("no connections")
			dial.PrintGaps(t, all)
			return nil
		}
		printConnections(t, all.GetConnections())
		dial.PrintGaps(t, all)
		if more {
			t.PrintNote("the first %d; --limit 0 lists all", c.Limit)
		}
		return nil
	})
}

func printConnections(t *terminal.Terminal, list []*controlv1.Connection) {
	const groupsWidth, nameWidth = 28, 24 // columns of a terminal; `get` shows all
	rows := make([][]string, len(list))
	for i, c := range list {
		rows[i] = []string{
			c.GetId(), orDash(terminal.ShortenText(c.GetUser(), nameWidth)),
			orDash(terminal.ShortenText(strings.Join(c.GetGroups(), ", "), groupsWidth)),
			c.GetProtocol(), stateWord(c.GetState()), fmt.Sprint(c.GetQueuedMessages()),
			roundTrip(c),
			terminal.AgeWords(t.Now().Sub(c.GetCreateTime().AsTime())), c.GetRemoteAddress(),
		}
	}
	t.PrintTable([]string{
		"ID", "USER", "GROUPS", "PROTOCOL", "STATE", "QUEUED", "RTT", "SINCE",
		"ADDRESS",
	}, rows)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func stateWord(s controlv1.ConnectionState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "CONNECTION_STATE_"))
}

func roundTrip(c *controlv1.Connection) string {
	if c.GetRoundTripTime() == nil {
		return "-"
	}
	d := c.GetRoundTripTime().AsDuration()
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

type connectionsGetCmd struct {
	ID string `arg:"" help:"Id of the connection."`

	dial.Flags
}

func (c *connectionsGetCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.GetConnectionResponse, error) {
		return controlv1.NewConnectionServiceClient(hub).GetConnection(ctx,
			&controlv1.GetConnectionRequest{
				Namespace: c.Namespace, Connection: c.ID,
			})
	}, func(response *controlv1.GetConnectionResponse) {
		printConnection(t, response.GetConnection())
	})
}

func labelWords(c *controlv1.Connection) string {
	list := make([]string, 0, len(c.GetLabels()))
	for _, name := range slices.Sorted(maps.Keys(c.GetLabels())) {
		list = append(list, name+"="+c.GetLabels()[name])
	}
	return strings.Join(list, ", ")
}

func printConnection(t *terminal.Terminal, c *controlv1.Connection) {
	created := c.GetCreateTime().AsTime()
	t.PrintFields([][2]string{
		{"id", c.GetId()},
		{"namespace", c.GetNamespace()},
		{"user", orDash(c.GetUser())},
		{"groups", orDash(strings.Join(c.GetGroups(), ", "))},
		{"labels", orDash(labelWords(c))},
		{"protocol", c.GetProtocol()},
		{"state", stateWord(c.GetState())},
		{"address", c.GetRemoteAddress()},
		{"since", fmt.Sprintf("%s (%s)", created.UTC().Format(time.RFC3339),
			terminal.AgeWords(t.Now().Sub(created)))},
		{"queued", fmt.Sprintf("%s, %s", terminal.CountNoun(c.GetQueuedMessages(), "message"),
			terminal.CountNoun(c.GetQueuedBytes(), "byte"))},
		{"unacked", terminal.CountNoun(c.GetUnackedMessages(), "message")},
		{"last acked", fmt.Sprintf("#%d", c.GetLastAcked())},
		{"round trip", roundTrip(c)},
		{"hub", c.GetHub()},
	})
}

type connectionsCloseCmd struct {
	TargetFlags

	IDs        []string `arg:"" optional:"" name:"id" sep:"none" help:"Connections; the same as --connection."`
	Code       int32    `default:"1000" placeholder:"CODE" help:"WebSocket close code for the clients: 1000, 1001, 1008, 1011-1013 or 3000-4999. (${default})"`
	Reason     string   `placeholder:"TEXT" help:"Close reason for the clients, at most 123 bytes."`
	MaxMatched int32    `placeholder:"N" help:"Close nothing if more than N connections match. Required with --everyone."`

	dial.Flags
}

func (c *connectionsCloseCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	c.Connection = append(c.Connection, c.IDs...)
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	if c.Everyone && c.MaxMatched == 0 {
		return terminal.UsageErrorf("--everyone needs --max-matched N: nothing is closed when " +
			"more than N match")
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.CloseConnectionsResponse, error) {
		return controlv1.NewConnectionServiceClient(hub).CloseConnections(ctx,
			&controlv1.CloseConnectionsRequest{
				Namespace: c.Namespace, Target: target, Code: c.Code, Reason: c.Reason,
				MaxMatched: c.MaxMatched,
			})
	}, func(response *controlv1.CloseConnectionsResponse) {
		printOutcome(t, response.GetMatched(), tally{response.GetClosed(), "closed"},
			tally{response.GetMatched() - response.GetClosed(), "closing already"})
		dial.PrintGaps(t, response)
	})
}

// tally is a number with its meaning.
type tally struct {
	n    int32
	word string
}

// printOutcome prints a line for a verb with a target: how many connections matched, and the
// tallies. It prints the first tally even if it is 0.
func printOutcome(t *terminal.Terminal, matched int32, tallies ...tally) {
	if matched == 0 {
		_, _ = fmt.Fprintf(t.Stdout, "%s no connection matched\n", t.Out.YellowText("○"))
		return
	}
	var words []string
	for i, x := range tallies {
		if x.n > 0 || i == 0 {
			words = append(words, fmt.Sprintf("%d %s", x.n, x.word))
		}
	}
	_, _ = fmt.Fprintf(t.Stdout, "%s %s matched: %s\n", t.Out.GreenText("✓"),
		terminal.CountNoun(matched, "connection"), strings.Join(words, ", "))
}
