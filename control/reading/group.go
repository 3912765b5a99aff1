package reading

import (
	"context"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// GetGroup counts the members of a group on all hubs.
func (r *Reader) GetGroup(
	ctx context.Context, req *controlv1.GetGroupRequest,
) (*controlv1.GetGroupResponse, error) {
	route := r.mesh.RouteFor(form.NamespaceOf(req), &hub.Target{Groups: []string{req.GetGroup()}})
	group := &controlv1.Group{Name: req.GetGroup()}
	local, err := r.hub.Group(form.NamespaceOf(req), req.GetGroup())
	if err == nil {
		group.Members = form.ClampCount(local.Members)
	}
	answers, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Group{Group: req},
	})
	for _, p := range answers {
		group.Members = form.AddCounts(group.Members, p.response.GetGroup().GetMembers())
	}
	lost = append(lost, route.Unreachable...)
	switch {
	case group.GetMembers() == 0 && len(lost) > 0:
		return nil, failure.ErrHubsUnreachable
	case group.GetMembers() == 0:
		return nil, hub.ErrGroupNotFound
	}
	return &controlv1.GetGroupResponse{
		Group: group, UnreachableHubs: form.HubNames(lost),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
	}, nil
}

// ListGroups returns a page of the groups that have a member on any hub.
func (r *Reader) ListGroups(
	ctx context.Context, req *controlv1.ListGroupsRequest,
) (*controlv1.ListGroupsResponse, error) {
	const method = controlv1.GroupService_ListGroups_FullMethodName
	request, err := newFingerprint(method, form.NamespaceOf(req), nil)
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), request)
	if err != nil {
		return nil, err
	}
	response, next, err := r.listGroups(ctx, req, after)
	if err != nil {
		return nil, err
	}
	response.NextPageToken = pageToken(request, next)
	return response, nil
}

// listGroups is ListGroups with the page token read and not yet written.
func (r *Reader) listGroups(
	ctx context.Context, req *controlv1.ListGroupsRequest, after hub.Cursor,
) (*controlv1.ListGroupsResponse, hub.Cursor, error) {
	limit := pageSize(req.GetPageSize())
	route := r.mesh.RouteFor(form.NamespaceOf(req), &hub.Target{Everyone: true})
	local, err := localGroups(r.hub, req, after)
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	pages := []page[*controlv1.Group]{local}
	request := &controlv1.ListGroupsRequest{
		Namespace: form.NamespaceOf(req), PageSize: int32(limit),
	}
	question := &peerv1.ReadGroups{Request: request, After: newPeerCursor(after)}
	answers, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Groups{Groups: question},
	})
	for _, p := range answers {
		peerPage := p.response.GetGroups()
		pages = append(pages, page[*controlv1.Group]{
			peerPage.GetGroups(), cursorIn(peerPage.GetNext()),
		})
	}
	merged := mergePages(pages, limit, func(g *controlv1.Group) string { return g.GetName() },
		func(a, b *controlv1.Group) *controlv1.Group {
			members := form.AddCounts(a.GetMembers(), b.GetMembers())
			return &controlv1.Group{Name: a.GetName(), Members: members}
		})
	return &controlv1.ListGroupsResponse{
		Groups:            merged.items,
		UnreachableHubs:   form.HubNames(append(lost, route.Unreachable...)),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
	}, merged.next, nil
}

func localGroups(
	h *hub.Hub, req *controlv1.ListGroupsRequest, after hub.Cursor,
) (page[*controlv1.Group], error) {
	infos, next, err := h.Groups(form.NamespaceOf(req), after, pageSize(req.GetPageSize()))
	if err != nil {
		return page[*controlv1.Group]{}, err
	}
	items := make([]*controlv1.Group, len(infos))
	for i, info := range infos {
		items[i] = form.NewGroup(info)
	}
	return page[*controlv1.Group]{items, next}, nil
}
