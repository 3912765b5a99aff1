package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type tokenCmd struct {
	User  string        `short:"u" placeholder:"USER" help:"Who connects with it; nobody in particular otherwise."`
	Group []string      `short:"g" sep:"none" placeholder:"GROUP" help:"A group that the connection is in from the start; repeatable."`
	TTL   time.Duration `name:"ttl" default:"1h" placeholder:"DURATION" help:"How long it may be used to connect, 1s to 720h. (${default})"`

	clientFlags
}

func (c *tokenCmd) Run(ctx context.Context, t *terminal) error {
	return c.call(func(hub *client) error {
		var response *controlv1.IssueClientTokenResponse
		err := hub.invoke(ctx, 0, func(ctx context.Context) (err error) {
			response, err = controlv1.NewAccessServiceClient(hub).IssueClientToken(ctx, &controlv1.IssueClientTokenRequest{
				Namespace: c.Namespace, User: c.User, Groups: c.Group, Ttl: durationpb.New(c.TTL),
			})
			return err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return t.printJSON(response)
		}
		_, _ = fmt.Fprintln(t.stdout, response.GetUrl())
		t.note("%s", c.meaning(response))
		return nil
	})
}

// meaning says beside the URL, which may go into a pipe, what it is good for.
func (c *tokenCmd) meaning(r *controlv1.IssueClientTokenResponse) string {
	who := "an anonymous client"
	if c.User != "" {
		who = "user " + c.User
	}
	if len(c.Group) > 0 {
		who += " in " + strings.Join(c.Group, ", ")
	}
	return printable(fmt.Sprintf("lets in %s until %s; keep it secret", who, r.GetExpireTime().AsTime().Local().Format(time.DateTime)))
}
