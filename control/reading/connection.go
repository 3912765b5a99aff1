package reading

import (
	"context"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// GetConnection finds a connection at the hub where it was born, which its id names.
func (r *Reader) GetConnection(
	ctx context.Context, req *controlv1.GetConnectionRequest,
) (*controlv1.GetConnectionResponse, error) {
	info, err := r.hub.Connection(form.NamespaceOf(req), req.GetConnection())
	if err == nil {
		return &controlv1.GetConnectionResponse{Connection: form.NewConnection(&info)}, nil
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
	answers, lost := r.askHubs(ctx, []hub.ID{born}, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connection{Connection: req},
	})
	switch {
	case len(lost) > 0:
		return nil, failure.ErrHubsUnreachable
	case answers[0].err != nil:
		return nil, answers[0].err
	}
	return &controlv1.GetConnectionResponse{
		Connection: answers[0].response.GetConnection(),
	}, nil
}

// stateOf reports whether a hub is a member, and whether this hub has a link to it.
func (r *Reader) stateOf(id hub.ID) (known, linked bool) {
	for _, p := range r.mesh.Peers() {
		if p.Hub == id && p.State != mesh.PeerGone {
			return true, p.State == mesh.PeerLinked || p.State == mesh.PeerSuspect
		}
	}
	return false, false
}

// ListConnections returns a page of the matching connections of all hubs. A target that names
// nothing means everyone.
func (r *Reader) ListConnections(
	ctx context.Context, req *controlv1.ListConnectionsRequest,
) (*controlv1.ListConnectionsResponse, error) {
	req.Target = form.OrEveryone(req.GetTarget())
	const method = controlv1.ConnectionService_ListConnections_FullMethodName
	request, err := newFingerprint(method, form.NamespaceOf(req), req.GetTarget())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), request)
	if err != nil {
		return nil, err
	}
	response, next, err := r.listConnections(ctx, req, after)
	if err != nil {
		return nil, err
	}
	response.NextPageToken = pageToken(request, next)
	return response, nil
}

// listConnections is ListConnections with the page token read and not yet written.
func (r *Reader) listConnections(
	ctx context.Context, req *controlv1.ListConnectionsRequest, after hub.Cursor,
) (*controlv1.ListConnectionsResponse, hub.Cursor, error) {
	limit, target := pageSize(req.GetPageSize()), form.NewTarget(req.GetTarget())
	route := r.mesh.RouteFor(form.NamespaceOf(req), &target)
	local, err := localConnections(r.hub, req, after)
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	pages := []page[*controlv1.Connection]{local}
	question := &peerv1.ReadConnections{Request: withoutToken(req), After: newPeerCursor(after)}
	answers, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connections{Connections: question},
	})
	for _, p := range answers {
		peerPage := p.response.GetConnections()
		pages = append(pages, page[*controlv1.Connection]{
			peerPage.GetConnections(), cursorIn(peerPage.GetNext()),
		})
	}
	merged := mergePages(pages, limit, func(c *controlv1.Connection) string { return c.GetId() },
		func(first, _ *controlv1.Connection) *controlv1.Connection { return first })
	return &controlv1.ListConnectionsResponse{
		Connections:       merged.items,
		UnreachableHubs:   form.HubNames(append(lost, route.Unreachable...)),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
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
		items[i] = form.NewConnection(&infos[i])
	}
	return page[*controlv1.Connection]{items, next}, nil
}
