package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubsCmd struct {
	List  hubsListCmd  `cmd:"" default:"withargs" help:"List the hubs of the cluster."`
	Drain hubsDrainCmd `cmd:"" help:"Empty a hub: close its clients, spread over time."`

	Rebalance hubsRebalanceCmd `cmd:"" help:"Move connections from full hubs to empty hubs."`
}

type hubsListCmd struct {
	dial.Flags
}

// Help is shown by --help below the usage.
func (hubsListCmd) Help() string {
	return `The hub that answers comes first, then the hubs that it knows, as it sees them:

    STATE      linked; suspect: silent for 500 ms; unreachable: no link to it
    LEASE      held: it gets only sends that INTEREST matches; none: it gets every send
    INTEREST   number of users, groups and namespaces with a connection at it`
}

func (c *hubsListCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.ListHubsResponse, error) {
		return controlv1.NewHubServiceClient(hub).ListHubs(ctx, &controlv1.ListHubsRequest{})
	}, func(response *controlv1.ListHubsResponse) {
		printHubs(t, response)
	})
}

// printHubs prints the cluster as seen by the hub that answered.
func printHubs(t *terminal.Terminal, r *controlv1.ListHubsResponse) {
	headers := []string{
		"ID", "NAME", "VERSION", "STATE", "LEASE", "INTEREST", "CONNECTIONS",
		"STARTED",
	}
	zones := slices.ContainsFunc(r.GetHubs(), func(h *controlv1.Hub) bool {
		return h.GetZone() != ""
	})
	if zones {
		headers = slices.Insert(headers, 2, "ZONE")
	}
	rows := make([][]string, len(r.GetHubs()))
	for i, h := range r.GetHubs() {
		rows[i] = hubRow(t, h, r.GetCluster() != "")
		if zones {
			rows[i] = slices.Insert(rows[i], 2, h.GetZone())
		}
	}
	t.PrintTable(headers, rows)
	dial.PrintStale(t, r.GetDiscoveryStaleFor())
}

func hubRow(t *terminal.Terminal, h *controlv1.Hub, cluster bool) []string {
	lease := "none: gets every send"
	switch {
	case h.GetSelf() || !h.GetReachable():
		lease = ""
	case h.GetLease():
		lease = "held"
	}
	connections, started := "", ""
	if h.GetStartTime() != nil { // it answered
		connections, started = fmt.Sprint(h.GetConnections()),
			terminal.AgeWords(t.Now().Sub(h.GetStartTime().AsTime()))
	}
	return []string{
		h.GetId(), h.GetName(), h.GetVersion(), hubState(h, cluster), lease,
		fmt.Sprint(h.GetInterestSize()), connections, started,
	}
}

// hubState words the state of a hub as seen by the hub that answered.
func hubState(h *controlv1.Hub, cluster bool) string {
	state := "linked"
	switch {
	case h.GetSelf():
		state = "this hub"
	case !h.GetReachable():
		state = "unreachable"
	case h.GetSuspect():
		state = "suspect"
	}
	if h.GetDraining() {
		state += ", leaving"
	}
	if cluster && !h.GetRegistered() {
		state += ", not in etcd"
	}
	return state
}
