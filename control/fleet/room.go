package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/connhub/connhub/control/mesh"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Room says how many connections and clients a hub can take at a moment.
type Room struct {
	Places   int // connections that it can hold more
	Connects int // clients that could connect without waiting for the connect rate
}

// AsMessage returns the room for a peer.
func (r Room) AsMessage() *peerv1.HubRoom {
	return &peerv1.HubRoom{Places: int64(r.Places), Connects: int64(r.Connects)}
}

const (
	// roomTime bounds the wait for the room of peers, which only look it up.
	roomTime = time.Second
	// unknownRoom is the room of a peer whose version does not tell it.
	unknownRoom = 1000
	// mostRoom is more than any hub has.
	mostRoom = 1 << 30
)

// AskRooms asks the linked peers that do not leave for their room. It returns the answers that come
// in time, in the order of the peers. started is when this hub has started.
func AskRooms(ctx context.Context, m *mesh.Mesh, started time.Time) (all []mesh.Room) {
	ctx, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	var asked []hub.ID
	for _, p := range m.Peers() {
		if p.State == mesh.PeerLinked && !p.Draining {
			asked = append(asked, p.Hub)
		}
	}
	answers := make([]*peerv1.ReadResponse, len(asked))
	var wg sync.WaitGroup
	for i, id := range asked {
		wg.Go(func() {
			answers[i], _ = m.Read(ctx, id, &peerv1.ReadRequest{
				Read: &peerv1.ReadRequest_Self{Self: &peerv1.ReadHub{}},
			})
		})
	}
	wg.Wait()
	age := time.Since(started)
	for i, a := range answers {
		if a == nil {
			continue // it can't take connections either
		}
		r := mesh.Room{
			Hub:     asked[i],
			IsNewer: isNewer(age, time.Since(a.GetSelf().GetStartTime().AsTime())),
			Places:  roomIn(a.GetRoom().GetPlaces()), Connects: roomIn(a.GetRoom().GetConnects()),
		}
		if a.GetRoom() == nil {
			r.Places, r.Connects = unknownRoom, unknownRoom
		}
		all = append(all, r)
	}
	return all
}

// roomIn returns a number of a peer, which may have a bug, within bounds that can be summed up.
func roomIn(n int64) int { return int(max(0, min(n, mostRoom))) }

// isNewer reports whether a peer is of a newer generation than this hub: it is less than half as
// old. The hubs that a rolling deploy has not replaced yet are about as old as this hub, even if
// they started later. The hubs that it has replaced are much younger.
func isNewer(own, peer time.Duration) bool { return peer < own/2 }
