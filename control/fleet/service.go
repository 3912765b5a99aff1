package fleet

import (
	"context"

	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// CallPeer calls a peer, and waits for its answer for some seconds. The error is ErrHubNotFound or
// ErrHubsUnreachable of package failure, the error of ctx, or that with which the peer answered.
type CallPeer func(
	ctx context.Context, peer hub.ID, call *peerv1.Forward,
) (*peerv1.ForwardResult, error)

// Service implements HubService. All fields are static.
type Service struct {
	controlv1.UnimplementedHubServiceServer

	Self       hub.ID          // the id of this hub
	Reader     *reading.Reader // finds the hubs
	CallPeer   CallPeer        // calls peers of this hub
	Drain      Drainer         // the drain of this hub; nil: there is no DrainHub
	Rebalancer Rebalancer      // moves connections of this hub; nil: there is no RebalanceHubs
}

var _ controlv1.HubServiceServer = (*Service)(nil)

// ListHubs implements the RPC.
func (s *Service) ListHubs(
	ctx context.Context, _ *controlv1.ListHubsRequest,
) (*controlv1.ListHubsResponse, error) {
	return s.Reader.ListHubs(ctx), nil
}
