package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/config"
)

const (
	// issuers is the number of concurrent requests for tokens.
	issuers = 16
	// benchTokenTTL bounds the time for opening all connections.
	benchTokenTTL = time.Hour
)

// clientsURL parses an address for clients. Its error masks a user and a password.
func clientsURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, terminal.UsageErrorf("--url %s: want ws://HOST:PORT or wss://HOST:PORT",
			config.QuoteURL(text))
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" {
		return nil,
			terminal.UsageErrorf("--url %s: want ws://HOST:PORT or wss://HOST:PORT, without "+
				"user and query", config.QuoteURL(text))
	}
	return u, nil
}

// userName returns the user of connection i: 16 bytes.
func (b *bench) userName(i int) string { return fmt.Sprintf("%s%08d", b.name, i) }

// groupNames returns the groups of connection i.
func (b *bench) groupNames(i int) []string {
	names := []string{b.groupName()}
	for n := 1; n < b.groups; n++ {
		names = append(names, fmt.Sprintf("%s-%s-%d", b.groupName(), b.userName(i), n))
	}
	return names
}

// issueURLs returns a URL for each connection.
func (b *bench) issueURLs(ctx context.Context) ([]string, error) {
	urls := make([]string, b.flags.Connections)
	first, err := b.issueOne(ctx, 0)
	if hasReason(err, "NO_SIGNING_KEY") && len(b.flags.URL) > 0 {
		for i := range urls { // a hub without tokens
			urls[i] = b.placeURL(i, url.Values{"user": {b.userName(i)}, "group": b.groupNames(i)})
		}
		return urls, nil
	}
	if err != nil {
		if hasReason(err, "NO_SIGNING_KEY") {
			err = fmt.Errorf("%w. Or, if it lets in clients without tokens, name their address "+
				"with --url", err)
		}
		return nil, err
	}
	urls[0], b.report.Tokens = first, true
	var next, done atomic.Int64
	b.progress.showPhase("tokens", float64(len(urls)), func() (float64, string) {
		n := done.Load()
		return float64(n), fmt.Sprintf("%s of %s tokens", groupDigits(n), groupDigits(len(urls)))
	})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working sync.WaitGroup
	for range issuers {
		working.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1))
				if i >= len(urls) {
					return
				}
				one, err := b.issueOne(ctx, i)
				if err != nil {
					cancel(err)
				}
				urls[i] = one
				done.Add(1)
			}
		})
	}
	working.Wait()
	return urls, context.Cause(ctx)
}

func (b *bench) issueOne(ctx context.Context, i int) (string, error) {
	var response *controlv1.IssueClientTokenResponse
	err := b.hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
		response, err = controlv1.NewAccessServiceClient(b.hub).IssueClientToken(ctx,
			&controlv1.IssueClientTokenRequest{
				Namespace: b.flags.Namespace, User: b.userName(i), Groups: b.groupNames(i),
				Ttl: durationpb.New(benchTokenTTL),
			})
		return err
	})
	if err != nil || len(b.flags.URL) == 0 {
		return response.GetUrl(), err
	}
	return b.placeURL(i, url.Values{"access_token": {response.GetToken()}}), nil
}

// placeURL returns a URL at an address of --url. A token is valid at each address: it is bound to
// the URL that the hub names, not to the dialled address.
func (b *bench) placeURL(i int, query url.Values) string {
	u, err := clientsURL(b.flags.URL[i%len(b.flags.URL)])
	if err != nil {
		panic(err) // validate has read it
	}
	u = u.JoinPath("client", "hubs", b.flags.Namespace)
	u.RawQuery = query.Encode()
	return u.String()
}

// listTargets returns a target for each connection.
func (b *bench) listTargets(ctx context.Context) ([]*controlv1.Target, error) {
	var targets []*controlv1.Target
	_, err := dial.CollectPages(0, func(size int32, token string) (string, int, error) {
		var page *controlv1.ListConnectionsResponse
		err := b.hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
			page, err = controlv1.NewConnectionServiceClient(b.hub).ListConnections(ctx,
				&controlv1.ListConnectionsRequest{
					Namespace: b.flags.Namespace,
					Target:    &controlv1.Target{Groups: []string{b.groupName()}}, PageSize: size,
					PageToken: token,
				})
			return err
		})
		for _, c := range page.GetConnections() {
			targets = append(targets, &controlv1.Target{Connections: []string{c.GetId()}})
		}
		return page.GetNextPageToken(), len(page.GetConnections()), err
	})
	if err == nil && len(targets) != b.flags.Connections {
		err = fmt.Errorf("the hub lists %d of %d connections", len(targets), b.flags.Connections)
	}
	return slices.Clip(targets), err
}

func randomIndex(n int) int { return rand.IntN(n) }

// hasReason reports whether an error of the API has this reason.
func hasReason(err error, reason string) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == reason {
			return true
		}
	}
	return false
}
