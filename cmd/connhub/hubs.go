package main

import (
	"context"
	"fmt"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubsCmd struct {
	clientFlags
}

func (c *hubsCmd) Run(ctx context.Context, t *terminal) error {
	return c.call(func(hub *client) error {
		var response *controlv1.ListHubsResponse
		err := hub.invoke(ctx, 0, func(ctx context.Context) (err error) {
			response, err = controlv1.NewHubServiceClient(hub).ListHubs(ctx, &controlv1.ListHubsRequest{})
			return err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return t.printJSON(response)
		}
		t.printHubs(response.GetHubs())
		return nil
	})
}

func (t *terminal) printHubs(list []*controlv1.Hub) {
	rows := make([][]string, len(list))
	for i, h := range list {
		answers := ""
		if h.GetSelf() {
			answers = "this one answered"
		}
		rows[i] = []string{
			h.GetId(), h.GetName(), h.GetVersion(), fmt.Sprint(h.GetConnections()),
			age(t.now().Sub(h.GetStartTime().AsTime())), answers,
		}
	}
	t.table([]string{"ID", "NAME", "VERSION", "CONNECTIONS", "STARTED", ""}, rows)
}
