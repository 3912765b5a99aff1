package control

import (
	"context"

	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type hubService struct {
	controlv1.UnimplementedHubServiceServer
	reader *reading.Reader
	router *router
	drain  Drainer // nil: there is no DrainHub
}

// ListHubs implements the RPC.
func (s *hubService) ListHubs(
	ctx context.Context, _ *controlv1.ListHubsRequest,
) (*controlv1.ListHubsResponse, error) {
	return s.reader.ListHubs(ctx), nil
}
