package control

import (
	"context"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubService struct {
	controlv1.UnimplementedHubServiceServer
	router *router
}

// ListHubs implements the RPC.
func (s *hubService) ListHubs(
	ctx context.Context, _ *controlv1.ListHubsRequest,
) (*controlv1.ListHubsResponse, error) {
	return s.router.Hubs(ctx), nil
}
