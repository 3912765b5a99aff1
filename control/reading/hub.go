package reading

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// ListHubs describes this hub and its peers.
func (r *Reader) ListHubs(ctx context.Context) *controlv1.ListHubsResponse {
	self := newSelf(r.hub)
	self.Self, self.Reachable = true, true
	response := &controlv1.ListHubsResponse{Hubs: []*controlv1.Hub{self}}
	if r.mesh == nil {
		return response
	}
	self.Zone, self.Address = r.mesh.Zone(), r.mesh.Address()
	self.InterestSize = int64(r.mesh.InterestSize())
	self.Lease, self.Registered = true, r.mesh.Registered()
	peers := slices.DeleteFunc(r.mesh.Peers(), func(p mesh.PeerInfo) bool {
		return p.State == mesh.PeerGone
	})
	var linked []hub.ID
	for _, p := range peers {
		if p.State == mesh.PeerLinked {
			linked = append(linked, p.Hub)
		}
	}
	answers, _ := r.askHubs(ctx, linked, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Self{Self: &peerv1.ReadHub{}},
	})
	told := make(map[hub.ID]*controlv1.Hub, len(answers))
	for _, p := range answers {
		told[p.hub] = p.response.GetSelf()
	}
	for _, p := range peers {
		response.Hubs = append(response.Hubs, newPeer(&p, told[p.Hub]))
	}
	response.Cluster = r.mesh.Cluster()
	response.DiscoveryStaleFor = form.StaleFor(r.mesh.StaleFor())
	return response
}

// newPeer describes a peer. told is the answer of the peer, or nil if it did not answer.
func newPeer(p *mesh.PeerInfo, told *controlv1.Hub) *controlv1.Hub {
	return &controlv1.Hub{
		Id: string(p.Hub), Name: p.Name, Version: p.Version, Zone: p.Zone, Address: p.Address,
		Reachable: p.State == mesh.PeerLinked || p.State == mesh.PeerSuspect,
		Suspect:   p.State == mesh.PeerSuspect, Draining: p.Draining,
		Lease: p.Lease, Registered: p.Listed, InterestSize: int64(p.Interest),
		Connections: told.GetConnections(), StartTime: told.GetStartTime(),
	}
}

func newSelf(h *hub.Hub) *controlv1.Hub {
	return &controlv1.Hub{
		Id: string(h.ID()), Name: h.Name(), Version: h.Version(),
		StartTime: timestamppb.New(h.Started()), Connections: int64(h.Len()),
	}
}
