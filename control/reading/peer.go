package reading

import (
	"context"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// AnswerPeer answers a question that a Reader of a peer has asked.
func AnswerPeer(
	ctx context.Context, h *hub.Hub, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	response, err := readLocal(ctx, h, r)
	if err != nil {
		return nil, failure.ToStatus(err)
	}
	return response, nil
}

func readLocal(
	ctx context.Context, h *hub.Hub, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	switch q := r.GetRead().(type) {
	case *peerv1.ReadRequest_Connection:
		return readConnection(h, q.Connection)
	case *peerv1.ReadRequest_Connections:
		after := cursorIn(q.Connections.GetAfter())
		page, err := localConnections(h, q.Connections.GetRequest(), after)
		return &peerv1.ReadResponse{
			Read:        &peerv1.ReadResponse_Connections{Connections: newConnectionPage(page)},
			RecentMoves: hasMoves(h),
		}, err
	case *peerv1.ReadRequest_Group:
		info, err := h.Group(form.NamespaceOf(q.Group), q.Group.GetGroup())
		moves := hasMoves(h)
		if err != nil && !moves {
			return nil, err
		}
		return &peerv1.ReadResponse{
			Read:        &peerv1.ReadResponse_Group{Group: form.NewGroup(info)},
			RecentMoves: moves,
		}, nil
	case *peerv1.ReadRequest_Groups:
		page, err := localGroups(h, q.Groups.GetRequest(), cursorIn(q.Groups.GetAfter()))
		answer := &peerv1.GroupPage{Groups: page.items, Next: newPeerCursor(page.next)}
		return &peerv1.ReadResponse{
			Read: &peerv1.ReadResponse_Groups{Groups: answer}, RecentMoves: hasMoves(h),
		}, err
	case *peerv1.ReadRequest_Self:
		return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Self{Self: newSelf(h)}}, nil
	case *peerv1.ReadRequest_Permissions:
		counts, err := localPermissions(ctx, h, q.Permissions)
		if err != nil {
			return nil, err
		}
		return &peerv1.ReadResponse{
			Read:        &peerv1.ReadResponse_Permissions{Permissions: counts},
			RecentMoves: hasMoves(h),
		}, nil
	default:
		return nil, failure.ErrUnknownMethod
	}
}
