package main

import (
	"context"
	"fmt"

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

	clientFlags
}

func (c *groupsListCmd) Run(ctx context.Context, t *terminal) error {
	return c.withClient(func(hub *client) error {
		all := &controlv1.ListGroupsResponse{}
		more, err := collectPages(c.Limit, func(size int32, token string) (string, int, error) {
			var page *controlv1.ListGroupsResponse
			err := hub.invokeWithin(ctx, 0, func(ctx context.Context) (err error) {
				page, err = controlv1.NewGroupServiceClient(hub).ListGroups(ctx, &controlv1.ListGroupsRequest{
					Namespace: c.Namespace, PageSize: size, PageToken: token,
				})
				return err
			})
			all.Groups = append(all.Groups, page.GetGroups()...)
			all.NextPageToken = page.GetNextPageToken()
			all.UnreachableHubs, all.DiscoveryStaleFor = addHubs(all.GetUnreachableHubs(), page.GetUnreachableHubs()), page.GetDiscoveryStaleFor()
			return page.GetNextPageToken(), len(page.GetGroups()), err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return t.printJSON(all)
		case len(all.GetGroups()) == 0:
			t.printNote("no groups")
			t.printGaps(all)
			return nil
		}
		t.printGroups(all.GetGroups())
		t.printGaps(all)
		if more {
			t.printNote("the first %d; --limit 0 lists all", c.Limit)
		}
		return nil
	})
}

func (t *terminal) printGroups(list []*controlv1.Group) {
	rows := make([][]string, len(list))
	for i, g := range list {
		rows[i] = []string{g.GetName(), fmt.Sprint(g.GetMembers())}
	}
	t.printTable([]string{"GROUP", "MEMBERS"}, rows)
}

type groupsGetCmd struct {
	Group string `arg:"" help:"Name of the group."`

	clientFlags
}

func (c *groupsGetCmd) Run(ctx context.Context, t *terminal) error {
	return askAndShow(ctx, t, &c.clientFlags, func(ctx context.Context, hub *client) (*controlv1.GetGroupResponse, error) {
		return controlv1.NewGroupServiceClient(hub).GetGroup(ctx, &controlv1.GetGroupRequest{
			Namespace: c.Namespace, Group: c.Group,
		})
	}, func(response *controlv1.GetGroupResponse) {
		t.printGroups([]*controlv1.Group{response.GetGroup()})
		t.printGaps(response)
	})
}

type groupsAddCmd struct {
	targetFlags

	Groups []string `arg:"" name:"name" sep:"none" help:"Groups to join."`

	clientFlags
}

func (c *groupsAddCmd) Run(ctx context.Context, t *terminal) error {
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	return askAndShow(ctx, t, &c.clientFlags, func(ctx context.Context, hub *client) (*controlv1.AddToGroupsResponse, error) {
		return controlv1.NewGroupServiceClient(hub).AddToGroups(ctx, &controlv1.AddToGroupsRequest{
			Namespace: c.Namespace, Target: target, Groups: c.Groups,
		})
	}, func(response *controlv1.AddToGroupsResponse) {
		t.printOutcome(response.GetMatched(), tally{response.GetAdded(), "added"},
			tally{response.GetAlready(), "in it already"}, tally{response.GetRefused(), "refused: limit of 128 groups reached"},
			tally{response.GetClosed(), "closed meanwhile"})
		t.printRefusals(response.GetRefusals(), response.GetRefused()+response.GetClosed())
		t.printGaps(response)
	})
}

type groupsRemoveCmd struct {
	targetFlags

	Groups []string `arg:"" optional:"" name:"name" sep:"none" help:"Groups to leave."`
	All    bool     `help:"Leave every group."`

	clientFlags
}

func (c *groupsRemoveCmd) Run(ctx context.Context, t *terminal) error {
	target, err := c.parseTarget()
	if err != nil {
		return err
	}
	if c.All == (len(c.Groups) > 0) {
		return usageErrorf("name the groups to leave, or give --all")
	}
	return askAndShow(ctx, t, &c.clientFlags, func(ctx context.Context, hub *client) (*controlv1.RemoveFromGroupsResponse, error) {
		return controlv1.NewGroupServiceClient(hub).RemoveFromGroups(ctx, &controlv1.RemoveFromGroupsRequest{
			Namespace: c.Namespace, Target: target, Groups: c.Groups, AllGroups: c.All,
		})
	}, func(response *controlv1.RemoveFromGroupsResponse) {
		t.printOutcome(response.GetMatched(), tally{response.GetRemoved(), "removed"})
		t.printGaps(response)
	})
}
