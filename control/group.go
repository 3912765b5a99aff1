package control

import (
	"context"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// membership changes who is in which group.
type membership interface {
	Join(ctx context.Context, namespace string, t *hub.Target, groups []string) (hub.Joined, error)
	Leave(ctx context.Context, namespace string, t *hub.Target, groups []string, all bool) (hub.Left, error)
}

// groups is who knows the groups.
type groups interface {
	Group(namespace, name string) (hub.GroupInfo, error)
	Groups(namespace string, after hub.Cursor, limit int) ([]hub.GroupInfo, hub.Cursor, error)
}

var (
	_ membership = (*hub.Hub)(nil)
	_ groups     = (*hub.Hub)(nil)
)

type groupService struct {
	controlv1.UnimplementedGroupServiceServer
	membership membership
	groups     groups
}

// AddToGroups implements the RPC.
func (s *groupService) AddToGroups(ctx context.Context, req *controlv1.AddToGroupsRequest) (*controlv1.AddToGroupsResponse, error) {
	target := newTarget(req.GetTarget())
	joined, err := s.membership.Join(ctx, namespace(req), &target, req.GetGroups())
	if err != nil {
		return nil, err
	}
	return &controlv1.AddToGroupsResponse{
		Matched: count(joined.Matched),
		Added:   count(joined.Added),
		Already: count(joined.Already),
		Refused: count(joined.Refused),
		Closed:  count(joined.Closed),
	}, nil
}

// RemoveFromGroups implements the RPC.
func (s *groupService) RemoveFromGroups(ctx context.Context, req *controlv1.RemoveFromGroupsRequest) (*controlv1.RemoveFromGroupsResponse, error) {
	switch {
	case req.GetAllGroups() && len(req.GetGroups()) > 0:
		return nil, &fieldError{errInvalidField, "groups", "must be empty when all_groups is set"}
	case !req.GetAllGroups() && len(req.GetGroups()) == 0:
		return nil, &fieldError{errInvalidField, "groups", "must not be empty unless all_groups is set"}
	}
	target := newTarget(req.GetTarget())
	left, err := s.membership.Leave(ctx, namespace(req), &target, req.GetGroups(), req.GetAllGroups())
	if err != nil {
		return nil, err
	}
	return &controlv1.RemoveFromGroupsResponse{Matched: count(left.Matched), Removed: count(left.Removed)}, nil
}

// ListGroups implements the RPC.
func (s *groupService) ListGroups(_ context.Context, req *controlv1.ListGroupsRequest) (*controlv1.ListGroupsResponse, error) {
	request, err := newFingerprint(controlv1.GroupService_ListGroups_FullMethodName, namespace(req), nil)
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), request)
	if err != nil {
		return nil, err
	}
	infos, next, err := s.groups.Groups(namespace(req), after, pageSize(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	response := &controlv1.ListGroupsResponse{
		Groups:        make([]*controlv1.Group, len(infos)),
		NextPageToken: pageToken(request, next),
	}
	for i, info := range infos {
		response.Groups[i] = newGroup(info)
	}
	return response, nil
}

// GetGroup implements the RPC.
func (s *groupService) GetGroup(_ context.Context, req *controlv1.GetGroupRequest) (*controlv1.GetGroupResponse, error) {
	info, err := s.groups.Group(namespace(req), req.GetGroup())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetGroupResponse{Group: newGroup(info)}, nil
}

func newGroup(info hub.GroupInfo) *controlv1.Group {
	return &controlv1.Group{Name: info.Name, Members: count(info.Members)}
}
