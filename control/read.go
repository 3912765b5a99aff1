package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// readTimeout bounds the wait of a read for peers, which only look something up.
const readTimeout = 2 * time.Second

// part is the answer of a hub to a read.
type part struct {
	hub      hub.ID
	response *peerv1.ReadResponse
	err      error // for the backend; nil with response
}

// askHubs asks hubs at the same time. It returns their answers in the order of hubs, and the hubs
// that did not answer.
func (r *router) askHubs(
	ctx context.Context, hubs []hub.ID, req *peerv1.ReadRequest,
) ([]part, unknown) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all := make([]part, len(hubs))
	var wg sync.WaitGroup
	for i, id := range hubs {
		wg.Go(func() {
			response, err := r.mesh.Read(ctx, id, req)
			if err != nil && !errors.Is(err, mesh.ErrUnreachable) {
				err = failure.FromStatus(err)
			}
			all[i] = part{id, response, err}
		})
	}
	wg.Wait()
	var answered []part
	var lost unknown
	for _, p := range all {
		if p.err != nil && failure.CodeOf(p.err) != codes.NotFound {
			lost = append(lost, p.hub)
		} else {
			answered = append(answered, p)
		}
	}
	return answered, lost
}

func hubsOf(to []mesh.Destination) []hub.ID {
	ids := make([]hub.ID, len(to))
	for i, d := range to {
		ids[i] = d.Hub
	}
	return ids
}

// Connection finds a connection at the hub where it was born, which its id names.
func (r *router) Connection(
	ctx context.Context, req *controlv1.GetConnectionRequest,
) (*controlv1.Connection, error) {
	info, err := r.hub.Connection(form.NamespaceOf(req), req.GetConnection())
	if err == nil {
		return newConnection(&info), nil
	}
	_, born, parseErr := hub.ParseConnectionID(req.GetConnection())
	if r.mesh == nil || parseErr != nil || born == r.hub.ID() {
		return nil, err
	}
	switch known, linked := r.stateOf(born); {
	case !known && r.mesh.StaleFor() > 0:
		return nil, failure.ErrHubsUnreachable // the hub may have come since discovery is stale
	case !known:
		return nil, err
	case !linked:
		return nil, failure.ErrHubsUnreachable
	}
	parts, lost := r.askHubs(ctx, []hub.ID{born}, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connection{Connection: req},
	})
	switch {
	case len(lost) > 0:
		return nil, failure.ErrHubsUnreachable
	case parts[0].err != nil:
		return nil, parts[0].err
	}
	return parts[0].response.GetConnection(), nil
}

// stateOf reports whether a hub is a member, and whether this hub has a link to it.
func (r *router) stateOf(id hub.ID) (known, linked bool) {
	for _, p := range r.mesh.Peers() {
		if p.Hub == id && p.State != mesh.PeerGone {
			return true, p.State == mesh.PeerLinked || p.State == mesh.PeerSuspect
		}
	}
	return false, false
}

// Connections returns a page of the matching connections of all hubs.
func (r *router) Connections(
	ctx context.Context, req *controlv1.ListConnectionsRequest, after hub.Cursor,
) (*controlv1.ListConnectionsResponse, hub.Cursor, error) {
	limit, target := pageSize(req.GetPageSize()), form.NewTarget(req.GetTarget())
	route := r.routeFor(form.NamespaceOf(req), &target)
	local, err := localConnections(r.hub, req, after)
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	pages := []page[*controlv1.Connection]{local}
	question := &peerv1.ReadConnections{Request: withoutToken(req), After: newPeerCursor(after)}
	parts, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connections{Connections: question},
	})
	for _, p := range parts {
		answer := p.response.GetConnections()
		pages = append(pages, page[*controlv1.Connection]{
			answer.GetConnections(), cursorIn(answer.GetNext()),
		})
	}
	merged := mergePages(pages, limit, func(c *controlv1.Connection) string { return c.GetId() },
		func(first, _ *controlv1.Connection) *controlv1.Connection { return first })
	return &controlv1.ListConnectionsResponse{
		Connections:       merged.items,
		UnreachableHubs:   append(lost, route.Unreachable...).sortedNames(),
		DiscoveryStaleFor: r.staleFor(),
	}, merged.next, nil
}

// withoutToken returns the request for a peer. The peer gets the cursor instead of the page token.
func withoutToken(req *controlv1.ListConnectionsRequest) *controlv1.ListConnectionsRequest {
	size := int32(pageSize(req.GetPageSize()))
	return &controlv1.ListConnectionsRequest{
		Namespace: form.NamespaceOf(req), Target: req.GetTarget(), PageSize: size,
	}
}

func localConnections(
	h *hub.Hub, req *controlv1.ListConnectionsRequest, after hub.Cursor,
) (page[*controlv1.Connection], error) {
	target := form.NewTarget(req.GetTarget())
	size := pageSize(req.GetPageSize())
	infos, next, err := h.Connections(form.NamespaceOf(req), &target, after, size)
	if err != nil {
		return page[*controlv1.Connection]{}, err
	}
	items := make([]*controlv1.Connection, len(infos))
	for i := range infos {
		items[i] = newConnection(&infos[i])
	}
	return page[*controlv1.Connection]{items, next}, nil
}

// Group counts the members of a group on all hubs.
func (r *router) Group(
	ctx context.Context, req *controlv1.GetGroupRequest,
) (*controlv1.GetGroupResponse, error) {
	route := r.routeFor(form.NamespaceOf(req), &hub.Target{Groups: []string{req.GetGroup()}})
	group := &controlv1.Group{Name: req.GetGroup()}
	local, err := r.hub.Group(form.NamespaceOf(req), req.GetGroup())
	if err == nil {
		group.Members = form.ClampCount(local.Members)
	}
	parts, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Group{Group: req},
	})
	for _, p := range parts {
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
		Group: group, UnreachableHubs: lost.sortedNames(), DiscoveryStaleFor: r.staleFor(),
	}, nil
}

// Groups returns a page of the groups that have a member on any hub.
func (r *router) Groups(
	ctx context.Context, req *controlv1.ListGroupsRequest, after hub.Cursor,
) (*controlv1.ListGroupsResponse, hub.Cursor, error) {
	limit := pageSize(req.GetPageSize())
	route := r.routeFor(form.NamespaceOf(req), &hub.Target{Everyone: true})
	local, err := localGroups(r.hub, req, after)
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	pages := []page[*controlv1.Group]{local}
	request := &controlv1.ListGroupsRequest{
		Namespace: form.NamespaceOf(req), PageSize: int32(limit),
	}
	question := &peerv1.ReadGroups{Request: request, After: newPeerCursor(after)}
	parts, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Groups{Groups: question},
	})
	for _, p := range parts {
		answer := p.response.GetGroups()
		pages = append(pages, page[*controlv1.Group]{
			answer.GetGroups(), cursorIn(answer.GetNext()),
		})
	}
	merged := mergePages(pages, limit, func(g *controlv1.Group) string { return g.GetName() },
		func(a, b *controlv1.Group) *controlv1.Group {
			members := form.AddCounts(a.GetMembers(), b.GetMembers())
			return &controlv1.Group{Name: a.GetName(), Members: members}
		})
	return &controlv1.ListGroupsResponse{
		Groups:            merged.items,
		UnreachableHubs:   append(lost, route.Unreachable...).sortedNames(),
		DiscoveryStaleFor: r.staleFor(),
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
		items[i] = newGroup(info)
	}
	return page[*controlv1.Group]{items, next}, nil
}

// Check counts the matching connections of all hubs, and those of them that have the permissions.
func (r *router) Check(
	ctx context.Context, req *controlv1.CheckPermissionsRequest,
) (*controlv1.CheckPermissionsResponse, error) {
	target := form.NewTarget(req.GetTarget())
	route := r.routeFor(form.NamespaceOf(req), &target)
	sum, err := localPermissions(ctx, r.hub, req)
	if err != nil {
		return nil, err
	}
	parts, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Permissions{Permissions: req},
	})
	for _, p := range parts {
		sum.Matched = form.AddCounts(sum.Matched, p.response.GetPermissions().GetMatched())
		sum.Allowed = form.AddCounts(sum.Allowed, p.response.GetPermissions().GetAllowed())
	}
	sum.UnreachableHubs = append(lost, route.Unreachable...).sortedNames()
	sum.DiscoveryStaleFor = r.staleFor()
	return sum, nil
}

func localPermissions(
	ctx context.Context, h *hub.Hub, req *controlv1.CheckPermissionsRequest,
) (*controlv1.CheckPermissionsResponse, error) {
	target := form.NewTarget(req.GetTarget())
	permissions := form.NewPermissions(req.GetPermissions())
	matched, allowed, err := h.Permits(ctx, form.NamespaceOf(req), &target, permissions)
	if err != nil {
		return nil, err
	}
	return &controlv1.CheckPermissionsResponse{
		Matched: form.ClampCount(matched), Allowed: form.ClampCount(allowed),
	}, nil
}

// Hubs describes this hub and its peers.
func (r *router) Hubs(ctx context.Context) *controlv1.ListHubsResponse {
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
	parts, _ := r.askHubs(ctx, linked, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Self{Self: &peerv1.ReadHub{}},
	})
	told := make(map[hub.ID]*controlv1.Hub, len(parts))
	for _, p := range parts {
		told[p.hub] = p.response.GetSelf()
	}
	for _, p := range peers {
		response.Hubs = append(response.Hubs, newPeer(&p, told[p.Hub]))
	}
	response.Cluster, response.DiscoveryStaleFor = r.mesh.Cluster(), r.staleFor()
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

// Read implements mesh.Executor. It answers the askHubs of a peer.
func (e *executor) Read(ctx context.Context, r *peerv1.ReadRequest) (*peerv1.ReadResponse, error) {
	response, err := e.readLocal(ctx, r)
	if err != nil {
		return nil, failure.ToStatus(err)
	}
	return response, nil
}

func (e *executor) readLocal(
	ctx context.Context, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	switch q := r.GetRead().(type) {
	case *peerv1.ReadRequest_Connection:
		info, err := e.hub.Connection(form.NamespaceOf(q.Connection), q.Connection.GetConnection())
		if err != nil {
			return nil, err
		}
		return &peerv1.ReadResponse{
			Read: &peerv1.ReadResponse_Connection{Connection: newConnection(&info)},
		}, nil
	case *peerv1.ReadRequest_Connections:
		after := cursorIn(q.Connections.GetAfter())
		page, err := localConnections(e.hub, q.Connections.GetRequest(), after)
		answer := &peerv1.ConnectionPage{Connections: page.items, Next: newPeerCursor(page.next)}
		return &peerv1.ReadResponse{
			Read: &peerv1.ReadResponse_Connections{Connections: answer},
		}, err
	case *peerv1.ReadRequest_Group:
		info, err := e.hub.Group(form.NamespaceOf(q.Group), q.Group.GetGroup())
		if err != nil {
			return nil, err
		}
		return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Group{Group: newGroup(info)}}, nil
	case *peerv1.ReadRequest_Groups:
		page, err := localGroups(e.hub, q.Groups.GetRequest(), cursorIn(q.Groups.GetAfter()))
		answer := &peerv1.GroupPage{Groups: page.items, Next: newPeerCursor(page.next)}
		return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Groups{Groups: answer}}, err
	case *peerv1.ReadRequest_Self:
		return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Self{Self: newSelf(e.hub)}}, nil
	case *peerv1.ReadRequest_Permissions:
		counts, err := localPermissions(ctx, e.hub, q.Permissions)
		if err != nil {
			return nil, err
		}
		return &peerv1.ReadResponse{
			Read: &peerv1.ReadResponse_Permissions{Permissions: counts},
		}, nil
	default:
		return nil, failure.ErrUnknownMethod
	}
}
