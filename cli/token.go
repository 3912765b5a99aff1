package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/devdir"
	"github.com/connhub/connhub/internal/publicurl"
)

type tokenCmd struct {
	User  string            `short:"u" placeholder:"USER" help:"User that connects with the token. (anonymous)"`
	Group []string          `short:"g" sep:"none" placeholder:"GROUP" help:"Group that the connection joins at the start; repeatable."`
	Role  []string          `sep:"none" placeholder:"ROLE" help:"Permission for groups, as webpubsub.joinLeaveGroup or webpubsub.sendToGroup.GROUP; repeatable. Without a role the client may only send events."`
	Label map[string]string `mapsep:"none" placeholder:"NAME=TEXT" help:"Label of the connection, for backends, in listings and events; repeatable, at most 16."`
	TTL   time.Duration     `name:"ttl" default:"1h" placeholder:"DURATION" help:"How long the token can open connections, 1s to 720h. (${default})"`

	ConnectionString bool     `group:"Connection string" help:"Print a connection string for Microsoft's Web PubSub server SDKs, which make tokens with it. No hub is asked."`
	TokenKeyFile     []string `env:"CONNHUB_TOKEN_KEY_FILE" placeholder:"FILE" group:"Connection string" help:"Key of the hubs; the first file counts. (the key of connhub dev)"`
	PublicURL        *url.URL `name:"public-url" default:"http://127.0.0.1:8080" env:"CONNHUB_PUBLIC_URL" placeholder:"URL" group:"Connection string" help:"The URL that clients see. (${default})"`

	dial.Flags
}

func (c *tokenCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if c.ConnectionString {
		if err := c.checkUnused(); err != nil {
			return err
		}
		return c.printConnectionString(t)
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.IssueClientTokenResponse, error) {
		return controlv1.NewAccessServiceClient(hub).IssueClientToken(ctx,
			&controlv1.IssueClientTokenRequest{
				Namespace: c.Namespace, User: c.User, Groups: c.Group, Roles: c.Role,
				Labels: c.Label, Ttl: durationpb.New(c.TTL),
			})
	}, func(response *controlv1.IssueClientTokenResponse) {
		_, _ = fmt.Fprintln(t.Stdout, response.GetUrl())
		t.PrintNote("%s", c.meaningWords(response))
	})
}

// checkUnused refuses flags of a single token, because a connection string is for all tokens.
func (c *tokenCmd) checkUnused() error {
	for _, one := range []struct {
		flag  string
		given bool
	}{
		{"--user", c.User != ""},
		{"--group", len(c.Group) > 0},
		{"--role", len(c.Role) > 0},
		{"--label", len(c.Label) > 0},
	} {
		if one.given {
			return terminal.UsageErrorf("%s has no effect with --connection-string: the SDK "+
				"sets it "+
				"for each token", one.flag)
		}
	}
	return nil
}

// printConnectionString prints endpoint and key in the form that Web PubSub's server SDKs take.
func (c *tokenCmd) printConnectionString(t *terminal.Terminal) error {
	key, err := c.loadKey()
	if err != nil {
		return terminal.UsageErrorf("%w", err)
	}
	access, err := key.AccessKey()
	if err != nil {
		return terminal.UsageErrorf("%w", err)
	}
	if want := publicurl.Check(c.PublicURL); want != "" {
		return terminal.UsageErrorf("--public-url %s: want %s", c.PublicURL.Redacted(), want)
	}
	endpoint := *c.PublicURL
	endpoint.Scheme = strings.Replace(endpoint.Scheme, "ws", "http", 1)
	_, _ = fmt.Fprintf(t.Stdout, "Endpoint=%s;AccessKey=%s;Version=1.0;\n", &endpoint, access)
	t.PrintNote("it contains the key: with it a client may connect as any user")
	return nil
}

func (c *tokenCmd) loadKey() (*auth.TokenKey, error) {
	if len(c.TokenKeyFile) > 0 {
		return auth.LoadTokenKey(c.TokenKeyFile[0])
	}
	dir, err := devdir.DefaultPath()
	if err != nil {
		return nil, err
	}
	key, err := auth.LoadTokenKey(filepath.Join(dir, devdir.TokenKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New(
			"--token-key-file is missing, and there is no key of connhub dev yet",
		)
	}
	return key, err
}

// meaningWords describes the URL in a note beside it. The URL itself may go into a pipe.
func (c *tokenCmd) meaningWords(r *controlv1.IssueClientTokenResponse) string {
	who := "an anonymous client"
	if c.User != "" {
		who = "user " + c.User
	}
	if len(c.Group) > 0 {
		who += " in " + strings.Join(c.Group, ", ")
	}
	return terminal.MakePrintable(fmt.Sprintf("lets in %s until %s; keep it secret",
		who, r.GetExpireTime().AsTime().Local().Format(time.DateTime)))
}
