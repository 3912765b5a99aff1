package control

import (
	"context"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// membership changes who is in which group.
type membership interface {
	Join(ctx context.Context, req *controlv1.AddToGroupsRequest) (*controlv1.AddToGroupsResponse, error)
	Leave(ctx context.Context, req *controlv1.RemoveFromGroupsRequest) (*controlv1.RemoveFromGroupsResponse, error)
}

// groups is who knows the groups.
type groups interface {
	Group(ctx context.Context, req *controlv1.GetGroupRequest) (*controlv1.GetGroupResponse, error)
	Groups(ctx context.Context, req *controlv1.ListGroupsRequest, after hub.Cursor) (*controlv1.ListGroupsResponse, hub.Cursor, error)
}

var (
	_ membership = (*router)(nil)
	_ groups     = (*router)(nil)
)

type groupService struct {
	controlv1.UnimplementedGroupServiceServer
	membership membership
	groups     groups
}

// AddToGroups implements the RPC.
func (s *groupService) AddToGroups(ctx context.Context, req *controlv1.AddToGroupsRequest) (*controlv1.AddToGroupsResponse, error) {
	return s.membership.Join(ctx, req)
}

// RemoveFromGroups implements the RPC.
func (s *groupService) RemoveFromGroups(ctx context.Context, req *controlv1.RemoveFromGroupsRequest) (*controlv1.RemoveFromGroupsResponse, error) {
	switch {
	case req.GetAllGroups() && len(req.GetGroups()) > 0:
		return nil, &fieldError{errInvalidField, "groups", "must be empty when all_groups is set"}
	case !req.GetAllGroups() && len(req.GetGroups()) == 0:
		return nil, &fieldError{errInvalidField, "groups", "must not be empty unless all_groups is set"}
	}
	return s.membership.Leave(ctx, req)
}

// ListGroups implements the RPC.
func (s *groupService) ListGroups(ctx context.Context, req *controlv1.ListGroupsRequest) (*controlv1.ListGroupsResponse, error) {
	request, err := newFingerprint(controlv1.GroupService_ListGroups_FullMethodName, namespace(req), nil)
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), request)
	if err != nil {
		return nil, err
	}
	response, next, err := s.groups.Groups(ctx, req, after)
	if err != nil {
		return nil, err
	}
	response.NextPageToken = pageToken(request, next)
	return response, nil
}

// GetGroup implements the RPC.
func (s *groupService) GetGroup(ctx context.Context, req *controlv1.GetGroupRequest) (*controlv1.GetGroupResponse, error) {
	return s.groups.Group(ctx, req)
}

func newJoined(joined hub.Joined) *controlv1.AddToGroupsResponse {
	return &controlv1.AddToGroupsResponse{
		Matched: count(joined.Matched),
		Added:   count(joined.Added),
		Already: count(joined.Already),
		Refused: count(joined.Refused),
		Closed:  count(joined.Closed),

		Refusals: newRefusals(joined.Refusals),
	}
}

func newLeft(left hub.Left) *controlv1.RemoveFromGroupsResponse {
	return &controlv1.RemoveFromGroupsResponse{Matched: count(left.Matched), Removed: count(left.Removed)}
}

func newGroup(info hub.GroupInfo) *controlv1.Group {
	return &controlv1.Group{Name: info.Name, Members: count(info.Members)}
}
