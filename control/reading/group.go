package reading

import (
	"context"
	"slices"

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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	count := r.countGroup(ctx, req, false)
	for tries := 0; count.hasMoves && isWorthATry(tries, int(count.members)); tries++ {
		again := r.countGroup(ctx, req, true)
		if count.members == 0 || again.members > 0 && len(again.lost) <= len(count.lost) {
			count = again
		} else {
			count.hasMoves = again.hasMoves
		}
	}
	switch {
	case count.members == 0 && len(count.lost) > 0:
		return nil, failure.ErrHubsUnreachable
	case count.members == 0:
		return nil, hub.ErrGroupNotFound
	}
	return &controlv1.GetGroupResponse{
		Group:             &controlv1.Group{Name: req.GetGroup(), Members: count.members},
		UnreachableHubs:   form.HubNames(count.lost),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
	}, nil
}

// groupCount is the count of a group's members on all hubs.
type groupCount struct {
	members  int32
	lost     []hub.ID // their members are not in the count
	hasMoves bool     // the count may be wrong
}

// countGroup asks for the counts. again says that the hubs were asked before.
func (r *Reader) countGroup(
	ctx context.Context, req *controlv1.GetGroupRequest, again bool,
) (count groupCount) {
	target := hub.Target{Groups: []string{req.GetGroup()}}
	ask, unreachable := r.hubsFor(form.NamespaceOf(req), &target, again)
	local, err := r.hub.Group(form.NamespaceOf(req), req.GetGroup())
	if err == nil {
		count.members = form.ClampCount(local.Members)
	}
	answers, lost := r.askHubs(ctx, ask, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Group{Group: req},
	})
	for _, p := range answers {
		count.members = form.AddCounts(count.members, p.response.GetGroup().GetMembers())
	}
	count.lost, count.hasMoves = slices.Concat(lost, unreachable), r.hasMoves(answers)
	return count
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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all, err := r.pageOfGroups(ctx, req, after, false)
	if err == nil && all.hasMoves {
		var again groupPage
		again, err = r.pageOfGroups(ctx, req, after, true)
		if len(again.lost) <= len(all.lost) {
			all.lost = again.lost
			all.page = mergePages([]page[*controlv1.Group]{all.page, again.page},
				pageSize(req.GetPageSize()), (*controlv1.Group).GetName, laterGroup)
		}
	}
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	return &controlv1.ListGroupsResponse{
		Groups: all.items, UnreachableHubs: form.HubNames(all.lost),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
	}, all.next, nil
}

// laterGroup returns the count that counts: that of the hubs that were asked again.
func laterGroup(_, again *controlv1.Group) *controlv1.Group { return again }

// groupPage is the page of all hubs behind a cursor.
type groupPage struct {
	page[*controlv1.Group]

	lost     []hub.ID // their groups are not in the page
	hasMoves bool     // the counts may be wrong, and groups be missing
}

// pageOfGroups asks for the pages, and merges them. again says that the hubs were asked before.
func (r *Reader) pageOfGroups(
	ctx context.Context, req *controlv1.ListGroupsRequest, after hub.Cursor, again bool,
) (groupPage, error) {
	limit := pageSize(req.GetPageSize())
	ask, unreachable := r.hubsFor(form.NamespaceOf(req), &hub.Target{Everyone: true}, again)
	local, err := localGroups(r.hub, req, after)
	if err != nil {
		return groupPage{}, err
	}
	pages := []page[*controlv1.Group]{local}
	request := &controlv1.ListGroupsRequest{
		Namespace: form.NamespaceOf(req), PageSize: int32(limit),
	}
	question := &peerv1.ReadGroups{Request: request, After: newPeerCursor(after)}
	answers, lost := r.askHubs(ctx, ask, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Groups{Groups: question},
	})
	for _, p := range answers {
		peerPage := p.response.GetGroups()
		pages = append(pages, page[*controlv1.Group]{
			peerPage.GetGroups(), cursorIn(peerPage.GetNext()),
		})
	}
	merged := mergePages(pages, limit, (*controlv1.Group).GetName,
		func(a, b *controlv1.Group) *controlv1.Group {
			members := form.AddCounts(a.GetMembers(), b.GetMembers())
			return &controlv1.Group{Name: a.GetName(), Members: members}
		})
	return groupPage{merged, append(lost, unreachable...), r.hasMoves(answers)}, nil
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
