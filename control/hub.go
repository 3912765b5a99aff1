package control

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

type hubService struct {
	controlv1.UnimplementedHubServiceServer
	self *hub.Hub
}

// ListHubs implements the RPC.
func (s *hubService) ListHubs(context.Context, *controlv1.ListHubsRequest) (*controlv1.ListHubsResponse, error) {
	self := &controlv1.Hub{
		Id:          string(s.self.ID()),
		Name:        s.self.Name(),
		Version:     s.self.Version(),
		StartTime:   timestamppb.New(s.self.Started()),
		Connections: int64(s.self.Len()),
		Self:        true,
	}
	return &controlv1.ListHubsResponse{Hubs: []*controlv1.Hub{self}}, nil
}
