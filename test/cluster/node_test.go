package cluster

import (
	"context"
	"net/url"
	"testing"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/relay"
	"github.com/connhub/connhub/test/bed/tally"
)

// node is the place of a hub in a cluster. A new process may take the place.
type node struct {
	*bed.Process

	number  int
	host    string         // all its own: it listens there, and its clients come from there
	relay   *relay.Relay   // nil: peers reach it directly
	toEtcd  []*relay.Relay // nil: it reaches etcd directly
	backend *grpc.ClientConn
}

// at puts members at a hub.
func at(n *node) func(*tally.Member) *node { return func(*tally.Member) *node { return n } }

// invite returns where a member connects, with a token of this hub, and with roles.
func (n *node) invite(
	ctx context.Context, m *tally.Member, roles ...string,
) (path string, err error) {
	token, err := controlv1.NewAccessServiceClient(n.backend).IssueClientToken(ctx,
		&controlv1.IssueClientTokenRequest{
			Namespace: m.Namespace, User: m.User, Groups: m.Groups, Roles: roles,
		})
	if err != nil {
		return "", err
	}
	where, err := url.Parse(token.GetUrl())
	if err != nil {
		return "", err
	}
	return where.RequestURI(), nil
}

// hubs returns a hub's knowledge of all hubs, by id.
func (n *node) hubs(t *testing.T) map[string]*controlv1.Hub {
	t.Helper()
	response, err := controlv1.NewHubServiceClient(n.backend).ListHubs(
		t.Context(), &controlv1.ListHubsRequest{},
	)
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[string]*controlv1.Hub)
	for _, h := range response.GetHubs() {
		byID[h.GetId()] = h
	}
	return byID
}

// bearer is the secret of a backend.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }
