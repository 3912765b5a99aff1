package cli

import (
	"context"
	"fmt"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type groupsCmd struct {
	List   groupsListCmd   `cmd:"" default:"withargs" help:"List the groups of a namespace."`
	Get    groupsGetCmd    `cmd:"" help:"Show one group."`
	Add    groupsAddCmd    `cmd:"" help:"Add connections to groups."`
	Remove groupsRemoveCmd `cmd:"" help:"Remove connections from groups."`
}

type groupsListCmd struct {
	Limit int `default:"100" placeholder:"N" help:"Longest list; 0 lists all. (${default})"`

	dial.Flags
}

func (c *groupsListCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return c.WithClient(func(hub *dial.Client) error {
		all := &controlv1.ListGroupsResponse{}
		more, err := dial.CollectPages(c.Limit, func(
			size int32, token string,
		) (string, int, error) {
			var page *controlv1.ListGroupsResponse
			err := hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
				page, err = controlv1.NewGroupServiceClient(hub).ListGroups(ctx,
					&controlv1.ListGroupsRequest{
						Namespace: c.Namespace, PageSize: size, PageToken: token,
					})
				return err
			})
			all.Groups = append(all.Groups, page.GetGroups()...)
			all.NextPageToken = page.GetNextPageToken()
			all.UnreachableHubs, all.DiscoveryStaleFor = dial.AddHubs(all.GetUnreachableHubs(),
				page.GetUnreachableHubs()), page.GetDiscoveryStaleFor()
			return page.GetNextPageToken(), len(page.GetGroups()), err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return dial.PrintJSON(t, all)
		case len(all.GetGroups()) == 0:
			t.PrintNote("no groups")
			dial.PrintGaps(t, all)
			return nil
		}
		printGroups(t, all.GetGroups())
		dial.PrintGaps(t, all)
		if more {
			t.PrintNote("the first %d; --limit 0 lists all", c.Limit)
		}
		return nil
	})
}

func printGroups(t *terminal.Terminal, list []*controlv1.Group) {
	rows := make([][]string, len(list))
	for i, g := range list {
		rows[i] = []string{g.GetName(), fmt.Sprint(g.GetMembers())}
	}
	t.PrintTable([]string{"GROUP", "MEMBERS"}, rows)
}

type groupsGetCmd struct {
	Group string `arg:"" help:"Name of the group."`

	dial.Flags
}

func (c *groupsGetCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.GetGroupResponse, error) {
		return controlv1.NewGroupServiceClient(hub).GetGroup(ctx, &controlv1.GetGroupRequest{
			Namespace: c.Namespace, Group: c.Group,
		})
	}, func(response *controlv1.GetGroupResponse) {
		printGroups(t, []*controlv1.Group{response.GetGroup()})
		dial.PrintGaps(t, response)
	})
}

type groupsAddCmd struct {
	TargetFlags

	Groups []string `arg:"" name:"name" sep:"none" help:"Groups to join."`

	dial.Flags
}

func (c *groupsAddCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.AddToGroupsResponse, error) {
		return controlv1.NewGroupServiceClient(hub).AddToGroups(ctx, &controlv1.AddToGroupsRequest{
			Namespace: c.Namespace, Target: target, Groups: c.Groups,
		})
	}, func(response *controlv1.AddToGroupsResponse) {
		printOutcome(t, response.GetMatched(), tally{response.GetAdded(), "added"},
			tally{response.GetAlready(), "in it already"},
			tally{response.GetRefused(), "refused: limit of 128 groups reached"},
			tally{response.GetClosed(), "closed meanwhile"})
		printRefusals(t, response.GetRefusals(), response.GetRefused()+response.GetClosed())
		dial.PrintGaps(t, response)
	})
}

type groupsRemoveCmd struct {
	TargetFlags

	Groups []string `arg:"" optional:"" name:"name" sep:"none" help:"Groups to leave."`
	All    bool     `help:"Leave every group."`

	dial.Flags
}

func (c *groupsRemoveCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	if c.All == (len(c.Groups) > 0) {
		return terminal.UsageErrorf("name the groups to leave, or give --all")
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.RemoveFromGroupsResponse, error) {
		return controlv1.NewGroupServiceClient(hub).RemoveFromGroups(ctx,
			&controlv1.RemoveFromGroupsRequest{
				Namespace: c.Namespace, Target: target, Groups: c.Groups, AllGroups: c.All,
			})
	}, func(response *controlv1.RemoveFromGroupsResponse) {
		printOutcome(t, response.GetMatched(), tally{response.GetRemoved(), "removed"})
		dial.PrintGaps(t, response)
	})
}
