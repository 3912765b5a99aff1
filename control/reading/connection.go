package reading

import (
	"context"
	"slices"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// GetConnection finds a connection wherever it is. It asks the hub where the connection was born,
// which its id names, and the hubs whose interest has the id, because it has moved there.
func (r *Reader) GetConnection(
	ctx context.Context, req *controlv1.GetConnectionRequest,
) (*controlv1.GetConnectionResponse, error) {
	here, err := readConnection(r.hub, req)
	_, born, parseErr := hub.ParseConnectionID(req.GetConnection())
	switch {
	case err == nil && here.GetMoved() == nil:
		return &controlv1.GetConnectionResponse{Connection: here.GetConnection()}, nil
	case r.mesh == nil || parseErr != nil:
		return nil, hub.ErrConnectionNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	route := r.mesh.RouteFor(form.NamespaceOf(req), &hub.Target{
		Connections: []string{req.GetConnection()},
	})
	s := &search{reader: r, request: req, isIncomplete: len(route.Unreachable) > 0}
	s.addSighting(here)
	s.askHubs(ctx, hubsOf(route.To))
	s.followMoves(ctx)
	switch {
	case s.found != nil:
		return &controlv1.GetConnectionResponse{Connection: s.found.GetConnection()}, nil
	case s.isIncomplete:
		return nil, failure.ErrHubsUnreachable
	case !r.isMember(born) && born != r.hub.ID() && r.mesh.StaleFor() > 0:
		return nil, failure.ErrHubsUnreachable // the hub may have come since discovery is stale
	default:
		return nil, hub.ErrConnectionNotFound
	}
}

// isMember reports whether a peer is a member of the cluster.
func (r *Reader) isMember(id hub.ID) bool {
	return slices.ContainsFunc(r.mesh.Peers(), func(p mesh.PeerInfo) bool {
		return p.Hub == id && p.State != mesh.PeerGone
	})
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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	limit := pageSize(req.GetPageSize())
	all, err := r.pagesOfConnections(ctx, req, after, false)
	if err == nil && all.hasMoves {
		var again connectionPages // it has those that the first pages have missed
		again, err = r.pagesOfConnections(ctx, req, after, true)
		all.pages = append(all.pages, again.pages...)
		all.lost = append(all.lost, again.lost...)
	}
	if err != nil {
		return nil, hub.Cursor{}, err
	}
	merged := mergePages(all.pages, limit, sighted.GetId, laterSighted)
	response := &controlv1.ListConnectionsResponse{
		UnreachableHubs:   form.HubNames(all.lost),
		DiscoveryStaleFor: form.StaleFor(r.mesh.StaleFor()),
	}
	for _, c := range merged.items {
		response.Connections = append(response.Connections, c.Connection)
	}
	return response, merged.next, nil
}

// sighted is a connection as a hub shows it.
type sighted struct {
	*controlv1.Connection
	epoch uint32
}

// laterSighted returns the sighting that counts: while a connection moves, two hubs may show it.
func laterSighted(a, b sighted) sighted {
	if b.epoch > a.epoch {
		return b
	}
	return a
}

// connectionPages are the pages of all hubs behind a cursor.
type connectionPages struct {
	pages    []page[sighted]
	lost     []hub.ID // their pages are unknown
	hasMoves bool     // connections may be in no page
}

// pagesOfConnections asks for the pages. again says that the hubs were asked before.
func (r *Reader) pagesOfConnections(
	ctx context.Context, req *controlv1.ListConnectionsRequest, after hub.Cursor, again bool,
) (connectionPages, error) {
	target := form.NewTarget(req.GetTarget())
	ask, unreachable := r.hubsFor(form.NamespaceOf(req), &target, again)
	local, err := localConnections(r.hub, req, after)
	if err != nil {
		return connectionPages{}, err
	}
	pages := []page[sighted]{local}
	question := &peerv1.ReadConnections{Request: withoutToken(req), After: newPeerCursor(after)}
	answers, lost := r.askHubs(ctx, ask, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connections{Connections: question},
	})
	for _, p := range answers {
		peerPage := p.response.GetConnections()
		pages = append(pages, page[sighted]{
			sightedIn(peerPage), cursorIn(peerPage.GetNext()),
		})
	}
	return connectionPages{pages, append(lost, unreachable...), r.hasMoves(answers)}, nil
}

// sightedIn and newConnectionPage translate the page of a peer and back.
func sightedIn(p *peerv1.ConnectionPage) []sighted {
	items := make([]sighted, len(p.GetConnections()))
	for i, c := range p.GetConnections() {
		items[i] = sighted{c, 1}
		if i < len(p.GetEpochs()) {
			items[i].epoch = p.GetEpochs()[i]
		}
	}
	return items
}

func newConnectionPage(p page[sighted]) *peerv1.ConnectionPage {
	made := &peerv1.ConnectionPage{Next: newPeerCursor(p.next)}
	epochs, have := make([]uint32, len(p.items)), false
	for i, c := range p.items {
		made.Connections = append(made.Connections, c.Connection)
		epochs[i] = c.epoch
		have = have || c.epoch != 1
	}
	if have {
		made.Epochs = epochs
	}
	return made
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
) (page[sighted], error) {
	target := form.NewTarget(req.GetTarget())
	size := pageSize(req.GetPageSize())
	infos, next, err := h.Connections(form.NamespaceOf(req), &target, after, size)
	if err != nil {
		return page[sighted]{}, err
	}
	items := make([]sighted, len(infos))
	for i := range infos {
		items[i] = sighted{form.NewConnection(&infos[i]), infos[i].Epoch}
	}
	return page[sighted]{items, next}, nil
}
