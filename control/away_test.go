package control

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// connectCrowd connects clients whose connections can move, and returns the ids.
func (f *fixture) connectCrowd(t *testing.T, count int) []hub.ConnectionID {
	t.Helper()
	ids := make([]hub.ConnectionID, count)
	for i := range ids {
		ids[i] = f.connectResumable(t, fmt.Sprint("user-", i), "crowd").ID()
	}
	return ids
}

// askRooms returns the room of the peers.
func (f *fixture) askRooms(ctx context.Context) []mesh.Room {
	return fleet.AskRooms(ctx, f.server.publisher.router.mesh, f.hub.Started())
}

func TestAHubThatLeavesCanWaitForMovesThatHaveBegun(t *testing.T) {
	c := newCluster(t, 2)
	old, next := c.hubs[0], c.hubs[1]
	const count = 100
	ids := old.connectCrowd(t, count)
	if err := old.moves().AwaitMoves(t.Context()); err != nil {
		t.Errorf("without moves: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	passed, stop := context.WithCancel(t.Context())
	stop()
	var waits atomic.Int64
	old.moves().MoveAway(ctx, mesh.Away{Connections: ids, Rooms: old.askRooms, Moved: func() {
		// the new hub has the connection, and the origins' marks are on their way
		if err := old.moves().AwaitMoves(passed); errors.Is(err, context.Canceled) {
			waits.Add(1)
		}
		leave()
	}})
	limit, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, h := range []*fixture{old, next} { // a busy new hub may hold what it gave up for longer
		if err := h.moves().AwaitMoves(limit); err != nil {
			t.Fatal(err)
		}
	}
	if waits.Load() == 0 {
		t.Error("no call has found a move under way")
	}
	if old.hub.Len()+next.hub.Len() != count || next.hub.Len() == 0 {
		t.Errorf("%d and %d connections, want %d", old.hub.Len(), next.hub.Len(), count)
	}
	for _, id := range ids {
		at := old.holderOf(t, id)
		if at != string(old.hub.ID()) && at != string(next.hub.ID()) {
			t.Errorf("connection %s is at %q", id, at)
		}
	}
}

// withRoom is a Config with this room for connections of hubs that leave.
func withRoom(places int) func(*Config) {
	return func(c *Config) {
		c.Room = func() fleet.Room {
			return fleet.Room{Places: places - c.Hub.Len(), Connects: 10_000}
		}
	}
}

// isNewerThan reports whether a hub is less than half as old as another: then it is newer.
func (f *fixture) isNewerThan(older *fixture) bool {
	return time.Since(f.hub.Started()) < time.Since(older.hub.Started())/2
}

func TestAHubThatLeavesPrefersNewerHubsByTheirRoom(t *testing.T) {
	began := time.Now()
	c := newCluster(t, 2, withRoom(1000))
	leaving, old := c.hubs[0], c.hubs[1]
	ids := leaving.connectCrowd(t, 100)
	lag := 8 * time.Since(began) // the next two hubs start in a quarter of that, also if it is slow
	testkit.Eventually(t, "the hubs are old", func() bool {
		return time.Since(leaving.hub.Started()) > lag
	})
	large, small := c.start(t, withRoom(60)), c.start(t, withRoom(20))
	full := c.start(t, withRoom(0))
	c.settle(t)
	if !large.isNewerThan(leaving) || old.isNewerThan(leaving) {
		t.Fatal("the ages of the hubs are not as planned")
	}
	moved := leaving.moves().MoveAway(t.Context(), mesh.Away{
		Connections: ids[:40], Rooms: leaving.askRooms, Moved: func() {},
	})
	requireMoved := func(want, atLarge, atSmall, atOld int) {
		t.Helper()
		// On a busy machine a move may take too long, and its connection goes to a different hub.
		failed := leaving.metric(t, "connhub_moves_total") - (len(ids) - leaving.hub.Len())
		beside := func(h *fixture, want int) bool {
			return h.hub.Len() < want-failed || h.hub.Len() > want+failed
		}
		if moved > want || moved < want-failed || full.hub.Len() != 0 || beside(large, atLarge) ||
			beside(small, atSmall) || beside(old, atOld) {
			t.Errorf("%d moved, want %d: %d, %d and %d at newer hubs, %d at an old one, "+
				"want %d, %d, 0 and %d; %d moves failed", moved, want, large.hub.Len(),
				small.hub.Len(), full.hub.Len(), old.hub.Len(), atLarge, atSmall, atOld, failed)
		}
	}
	requireMoved(40, 30, 10, 0)
	// The newer hubs have 40 places left. The rest must move, too.
	moved = leaving.moves().MoveAway(t.Context(), mesh.Away{
		Connections: ids[40:], By: time.Now(), Rooms: leaving.askRooms, Moved: func() {},
	})
	requireMoved(60, 60, 20, 20)
}
