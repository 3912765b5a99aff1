package control

import (
	"context"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// hubs is who knows the hubs of the cluster.
type hubs interface {
	Hubs(ctx context.Context) *controlv1.ListHubsResponse
}

var _ hubs = (*router)(nil)

type hubService struct {
	controlv1.UnimplementedHubServiceServer
	hubs hubs
}

// ListHubs implements the RPC.
func (s *hubService) ListHubs(ctx context.Context, _ *controlv1.ListHubsRequest) (*controlv1.ListHubsResponse, error) {
	return s.hubs.Hubs(ctx), nil
}
