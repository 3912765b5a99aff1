package reading

import (
	"context"

	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// maxFollowed is the most moves of a connection that a search follows: it moves rarely.
const maxFollowed = 4

// search looks for a connection that may be moving. It belongs to a single call.
//
// Problem: the new hub may answer before it has the connection, and the old hub after it has let go
// of it. Then no answer has the connection, although it was never gone.
//
// Outline: the old hub names the new hub (ConnectionMoved). The search asks that hub again, which
// has the connection by then. If both hubs show the connection, the higher epoch counts.
type search struct {
	reader  *Reader
	request *controlv1.GetConnectionRequest

	found        *peerv1.ReadResponse    // with the highest epoch; nil: no hub has shown it
	moved        *peerv1.ConnectionMoved // to the highest epoch; nil: no hub tells of a move
	isIncomplete bool                    // a hub that may have it was not asked
}

// addSighting takes in the answer of a hub, which may be nil.
func (s *search) addSighting(answer *peerv1.ReadResponse) {
	if answer.GetConnection() != nil && answer.GetEpoch() >= s.found.GetEpoch() {
		s.found = answer
	}
	if answer.GetMoved().GetEpoch() > s.moved.GetEpoch() {
		s.moved = answer.GetMoved()
	}
}

// askHubs asks hubs at the same time.
func (s *search) askHubs(ctx context.Context, hubs []hub.ID) {
	answers, lost := s.reader.askHubs(ctx, hubs, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Connection{Connection: s.request},
	})
	s.isIncomplete = s.isIncomplete || len(lost) > 0
	for _, p := range answers {
		s.addSighting(p.response)
	}
}

// followMoves asks the hubs to which the connection has moved, one after the other.
func (s *search) followMoves(ctx context.Context) {
	followed := uint32(0)
	for range maxFollowed {
		to := s.moved
		if to.GetEpoch() <= max(followed, s.found.GetEpoch()) {
			return
		}
		followed = to.GetEpoch()
		id := hub.ID(to.GetHub())
		if id == s.reader.hub.ID() {
			answer, _ := readConnection(s.reader.hub, s.request) // the error: it is not here
			s.addSighting(answer)
		} else if s.reader.isMember(id) || s.reader.mesh.StaleFor() > 0 {
			s.askHubs(ctx, []hub.ID{id})
		}
	}
}

// readConnection answers for this hub alone. The error is hub.ErrConnectionNotFound if the hub
// neither has the connection nor knows where it is.
func readConnection(
	h *hub.Hub, req *controlv1.GetConnectionRequest,
) (*peerv1.ReadResponse, error) {
	info, err := h.Connection(form.NamespaceOf(req), req.GetConnection())
	answer := &peerv1.ReadResponse{}
	if err == nil {
		answer.Read = &peerv1.ReadResponse_Connection{Connection: form.NewConnection(&info)}
		answer.Epoch = info.Epoch
	}
	stone, left := h.Moves().Tombstone(hub.ConnectionID(req.GetConnection()))
	if left && stone.Epoch > answer.GetEpoch() {
		answer.Moved = &peerv1.ConnectionMoved{Hub: stone.Hub, Epoch: stone.Epoch}
	} else if err != nil {
		return nil, err
	}
	return answer, nil
}
