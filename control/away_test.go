package control

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/connhub/connhub/hub"
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
	old.moves().MoveAway(ctx, ids, func() {
		// the new hub has the connection, and the origins' marks are on their way
		if err := old.moves().AwaitMoves(passed); errors.Is(err, context.Canceled) {
			waits.Add(1)
		}
		leave()
	})
	limit, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := old.moves().AwaitMoves(limit); err != nil {
		t.Fatal(err)
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
