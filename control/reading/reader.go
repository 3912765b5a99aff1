package reading

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/mesh"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Reader answers the calls that only read. It asks every hub that may know a part of the answer,
// and adds up their answers. It is safe for concurrent use.
type Reader struct {
	hub  *hub.Hub
	mesh *mesh.Mesh // nil: there are no peers
}

// New returns a Reader. m is nil if there are no peers.
func New(h *hub.Hub, m *mesh.Mesh) *Reader { return &Reader{hub: h, mesh: m} }

// readTimeout bounds the wait of a read for peers, which only look something up.
const readTimeout = 2 * time.Second

// peerAnswer is the answer of a peer to a read.
type peerAnswer struct {
	hub      hub.ID
	response *peerv1.ReadResponse
	err      error // for the backend; nil with response
}

// askHubs asks hubs at the same time. It returns their answers in the order of hubs, and the hubs
// that did not answer.
func (r *Reader) askHubs(
	ctx context.Context, hubs []hub.ID, req *peerv1.ReadRequest,
) ([]peerAnswer, []hub.ID) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all := make([]peerAnswer, len(hubs))
	var wg sync.WaitGroup
	for i, id := range hubs {
		wg.Go(func() {
			response, err := r.mesh.Read(ctx, id, req)
			if err != nil && !errors.Is(err, mesh.ErrUnreachable) {
				err = failure.FromStatus(err)
			}
			all[i] = peerAnswer{id, response, err}
		})
	}
	wg.Wait()
	var answered []peerAnswer
	var lost []hub.ID
	for _, p := range all {
		if p.err != nil && failure.CodeOf(p.err) != codes.NotFound {
			lost = append(lost, p.hub)
		} else {
			answered = append(answered, p)
		}
	}
	return answered, lost
}

// hubsFor returns the hubs to ask about a target, and those that can't be asked. With all it adds
// each linked peer: a connection may have moved there, and the news of the interest be on its way.
func (r *Reader) hubsFor(namespace string, t *hub.Target, all bool) (ask, lost []hub.ID) {
	route := r.mesh.RouteFor(namespace, t)
	ask = hubsOf(route.To)
	if !all {
		return ask, route.Unreachable
	}
	for _, p := range r.mesh.Peers() {
		if p.State == mesh.PeerLinked && !slices.Contains(ask, p.Hub) {
			ask = append(ask, p.Hub)
		}
	}
	return ask, route.Unreachable
}

// hasMoves reports whether connections have moved from this hub or to it, or a hub of the answers,
// since the read can have begun. Then two answers may have a connection, or none.
//
// A read then asks a second time, and takes the second answers if no more hubs fail. Without a
// further move they have the connection once: in between the old hub has heard that the new hub has
// it. A move that takes longer, or begins then, may show in the answer.
func (r *Reader) hasMoves(answers []peerAnswer) bool {
	for _, p := range answers {
		if p.response.GetRecentMoves() {
			return true
		}
	}
	return hasMoves(r.hub)
}

// mostTries is how often a count that finds nothing is made again, because a connection may have
// moved on each time.
const mostTries = 5

// isWorthATry reports whether a count is to be made again after so many further tries. The first
// tells whether a connection was counted twice. The others are for counts of 0.
func isWorthATry(tries, count int) bool { return tries == 0 || count == 0 && tries < mostTries }

func hasMoves(h *hub.Hub) bool { return h.Moves().HasRecent(readTimeout) }

func hubsOf(to []mesh.Destination) []hub.ID {
	ids := make([]hub.ID, len(to))
	for i, d := range to {
		ids[i] = d.Hub
	}
	return ids
}
