package control

import (
	"context"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

type groupService struct {
	controlv1.UnimplementedGroupServiceServer
	router *router
	reader *reading.Reader
}

// AddToGroups implements the RPC.
func (s *groupService) AddToGroups(
	ctx context.Context, req *controlv1.AddToGroupsRequest,
) (*controlv1.AddToGroupsResponse, error) {
	return callEverywhere(ctx, s.router, &joinVerb, req)
}

// RemoveFromGroups implements the RPC.
func (s *groupService) RemoveFromGroups(
	ctx context.Context, req *controlv1.RemoveFromGroupsRequest,
) (*controlv1.RemoveFromGroupsResponse, error) {
	switch {
	case req.GetAllGroups() && len(req.GetGroups()) > 0:
		return nil, failure.InvalidField("groups", "must be empty when all_groups is set")
	case !req.GetAllGroups() && len(req.GetGroups()) == 0:
		return nil, failure.InvalidField("groups", "must not be empty unless all_groups is set")
	}
	return callEverywhere(ctx, s.router, &leaveVerb, req)
}

// ListGroups implements the RPC.
func (s *groupService) ListGroups(
	ctx context.Context, req *controlv1.ListGroupsRequest,
) (*controlv1.ListGroupsResponse, error) {
	return s.reader.ListGroups(ctx, req)
}

// GetGroup implements the RPC.
func (s *groupService) GetGroup(
	ctx context.Context, req *controlv1.GetGroupRequest,
) (*controlv1.GetGroupResponse, error) {
	return s.reader.GetGroup(ctx, req)
}

// joinVerb makes connections members of groups.
var joinVerb = verb[*controlv1.AddToGroupsRequest, *controlv1.AddToGroupsResponse]{
	wrap: func(request []byte) *peerv1.Forward {
		return &peerv1.Forward{Call: &peerv1.Forward_Join{Join: request}}
	},
	begin: func(
		ctx context.Context, h *hub.Hub, req *controlv1.AddToGroupsRequest, target *hub.Target,
	) (*controlv1.AddToGroupsResponse, inForce, error) {
		joined, then, err := h.BeginJoin(ctx, form.NamespaceOf(req), target, req.GetGroups())
		return newJoined(joined), then, err
	},
	result: func(part *controlv1.AddToGroupsResponse) *peerv1.ForwardResult {
		return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Join{Join: part}}
	},
	partOf: (*peerv1.ForwardResult).GetJoin,
	add: func(sum, part *controlv1.AddToGroupsResponse) {
		sum.Matched = form.AddCounts(sum.GetMatched(), part.GetMatched())
		sum.Added = form.AddCounts(sum.GetAdded(), part.GetAdded())
		sum.Already = form.AddCounts(sum.GetAlready(), part.GetAlready())
		sum.Refused = form.AddCounts(sum.GetRefused(), part.GetRefused())
		sum.Closed = form.AddCounts(sum.GetClosed(), part.GetClosed())
		sum.Refusals = addRefusals(sum.GetRefusals(), part.GetRefusals())
	},
	setGaps: func(sum *controlv1.AddToGroupsResponse, g gaps) {
		sum.UnreachableHubs, sum.DiscoveryStaleFor = g.unreachableHubs, g.staleFor
	},
}

// leaveVerb takes connections out of groups.
var leaveVerb = verb[*controlv1.RemoveFromGroupsRequest, *controlv1.RemoveFromGroupsResponse]{
	wrap: func(request []byte) *peerv1.Forward {
		return &peerv1.Forward{Call: &peerv1.Forward_Leave{Leave: request}}
	},
	begin: func(
		ctx context.Context, h *hub.Hub, req *controlv1.RemoveFromGroupsRequest, target *hub.Target,
	) (*controlv1.RemoveFromGroupsResponse, inForce, error) {
		left, err := h.Leave(
			ctx, form.NamespaceOf(req), target, req.GetGroups(), req.GetAllGroups())
		return newLeft(left), nil, err
	},
	result: func(part *controlv1.RemoveFromGroupsResponse) *peerv1.ForwardResult {
		return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Leave{Leave: part}}
	},
	partOf: (*peerv1.ForwardResult).GetLeave,
	add: func(sum, part *controlv1.RemoveFromGroupsResponse) {
		sum.Matched = form.AddCounts(sum.GetMatched(), part.GetMatched())
		sum.Removed = form.AddCounts(sum.GetRemoved(), part.GetRemoved())
	},
	setGaps: func(sum *controlv1.RemoveFromGroupsResponse, g gaps) {
		sum.UnreachableHubs, sum.DiscoveryStaleFor = g.unreachableHubs, g.staleFor
	},
}

func newJoined(joined hub.Joined) *controlv1.AddToGroupsResponse {
	return &controlv1.AddToGroupsResponse{
		Matched: form.ClampCount(joined.Matched),
		Added:   form.ClampCount(joined.Added),
		Already: form.ClampCount(joined.Already),
		Refused: form.ClampCount(joined.Refused),
		Closed:  form.ClampCount(joined.Closed),

		Refusals: newRefusals(joined.Refusals),
	}
}

func newLeft(left hub.Left) *controlv1.RemoveFromGroupsResponse {
	return &controlv1.RemoveFromGroupsResponse{
		Matched: form.ClampCount(left.Matched), Removed: form.ClampCount(left.Removed),
	}
}
