package control

import (
	"context"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// carry moves a connection from a hub to another, step by step, and calls between after each.
func carry(t *testing.T, from, to *fixture, id hub.ConnectionID, between func(step string)) {
	t.Helper()
	info, err := from.hub.Connection(hub.DefaultNamespace, string(id))
	if err != nil {
		t.Fatal(err)
	}
	old, next := from.hub.Moves(), to.hub.Moves()
	snapshot, err := old.Freeze(t.Context(), id, to.hub.ID())
	if err != nil {
		t.Fatal(err)
	}
	between("frozen")
	if err := next.Adopt(snapshot, info.Epoch+1, resumableProtocol); err != nil {
		t.Fatal(err)
	}
	between("adopted")
	last, err := old.Seal(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range last {
		if err := next.Apply(id, op); err != nil {
			t.Fatal(err)
		}
	}
	if err := next.Commit(id); err != nil {
		t.Fatal(err)
	}
	inForce := make(chan error, 1)
	to.server.publisher.router.mesh.ThenInForce(next.Keys(id), func(err error) { inForce <- err })
	if err := <-inForce; err != nil {
		t.Fatal(err)
	}
	between("committed")
	if _, err := old.Release(id, cause.Client.CloseStatus()); err != nil {
		t.Fatal(err)
	}
	between("released")
}

// connectResumable connects a client whose connection can move.
func (f *fixture) connectResumable(t *testing.T, user string, groups ...string) *client {
	t.Helper()
	return f.connect(t, resumableProtocol, user, groups...)
}

// holderOf returns the hub that an entry hub names for a connection.
func (f *fixture) holderOf(t *testing.T, id hub.ConnectionID) string {
	t.Helper()
	got, err := f.connections.GetConnection(
		t.Context(), &controlv1.GetConnectionRequest{Connection: string(id)},
	)
	if err != nil {
		t.Errorf("hub %s: %v", f.hub.ID(), err)
	}
	return got.GetConnection().GetHub()
}

func TestAConnectionIsFoundWhileAndAfterItMoves(t *testing.T) {
	c := newCluster(t, 3)
	one := c.hubs[0].connectResumable(t, "ann", "lobby")
	id := one.ID()
	for _, f := range c.hubs {
		f.connect(t, &wireProtocol{}, "bob", "other")
	}
	// It moves on, and comes back to the hub where it was born.
	for _, way := range [][2]int{{0, 1}, {1, 2}, {2, 0}} {
		from, to := c.hubs[way[0]], c.hubs[way[1]]
		carry(t, from, to, id, func(step string) {
			want := string(from.hub.ID())
			if step == "committed" || step == "released" {
				want = string(to.hub.ID())
			}
			for _, f := range c.hubs {
				if have := f.holderOf(t, id); have != want {
					t.Errorf("%s, from %d to %d: hub %s names %s", step, way[0], way[1],
						f.hub.ID(), have)
				}
				f.holdListed(t, step, id, want)
				f.holdCounted(t, step)
			}
		})
	}
	_, err := c.hubs[1].connections.CloseConnections(
		t.Context(), &controlv1.CloseConnectionsRequest{
			Target: &controlv1.Target{Connections: []string{string(id)}},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.hubs {
		_, err := f.connections.GetConnection(
			t.Context(), &controlv1.GetConnectionRequest{Connection: string(id)},
		)
		failuretest.HoldError(t, err, codes.NotFound, "CONNECTION_NOT_FOUND")
	}
}

// holdListed holds that a listing has the connection once, at the hub that owns it.
func (f *fixture) holdListed(t *testing.T, step string, id hub.ConnectionID, holder string) {
	t.Helper()
	for name, target := range map[string]*controlv1.Target{
		"everyone": everyone(), "group": groupsTarget("lobby"), "user": users("ann"),
	} {
		var holders []string
		for page := range pagesOf(t, f, target, 2) {
			for _, connection := range page {
				if connection.GetId() == string(id) {
					holders = append(holders, connection.GetHub())
				}
			}
		}
		if !slices.Equal(holders, []string{holder}) {
			t.Errorf("%s: hub %s lists it by %s at %v, want %s", step, f.hub.ID(), name, holders,
				holder)
		}
	}
}

// holdCounted holds that counts have the only member of the lobby. While the old hub has not heard
// that the new hub has it, they may have it twice.
func (f *fixture) holdCounted(t *testing.T, step string) {
	t.Helper()
	for name, count := range f.counts(t) {
		if count != 1 && (step != "committed" || count != 2) {
			t.Errorf("%s: hub %s counts %d by %s", step, f.hub.ID(), count, name)
		}
	}
}

// counts returns how often reads have the only member of the lobby, ann.
func (f *fixture) counts(t *testing.T) map[string]int32 {
	t.Helper()
	group, err := f.groups.GetGroup(t.Context(), &controlv1.GetGroupRequest{Group: "lobby"})
	if err != nil {
		t.Error(err)
	}
	listed, err := f.groups.ListGroups(t.Context(), &controlv1.ListGroupsRequest{})
	if err != nil {
		t.Error(err)
	}
	checked, err := f.access.CheckPermissions(t.Context(), &controlv1.CheckPermissionsRequest{
		Target: users("ann"), Permissions: []*controlv1.Permission{{
			Action: controlv1.PermissionAction_PERMISSION_ACTION_JOIN_LEAVE_GROUP, Group: "lobby",
		}},
	})
	if err != nil {
		t.Error(err)
	}
	members := int32(0)
	for _, g := range listed.GetGroups() {
		if g.GetName() == "lobby" {
			members += g.GetMembers()
		}
	}
	return map[string]int32{
		"GetGroup": group.GetGroup().GetMembers(), "ListGroups": members,
		"CheckPermissions": checked.GetMatched(),
	}
}

// moveTo moves a connection to a hub, as a hub that leaves does: it need not rest between two
// moves.
func (f *fixture) moveTo(t *testing.T, to *fixture, id hub.ConnectionID) {
	t.Helper()
	room := mesh.Room{Hub: to.hub.ID(), Places: 1, Connects: 1}
	testkit.Eventually(t, "the connection moves", func() bool {
		return f.moves().MoveAway(t.Context(), mesh.Away{
			Connections: []hub.ConnectionID{id}, Moved: func() {},
			Rooms: func(context.Context) []mesh.Room { return []mesh.Room{room} },
		}) == 1
	})
}

// A connection moves from hub to hub, while all hubs read. No read misses it, and after each move
// all of them have it once.
func TestReadsHaveAConnectionThatMovesAgainAndAgain(t *testing.T) {
	c := newCluster(t, 3)
	one := c.hubs[0].connectResumable(t, "ann", "lobby")
	var readers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for _, f := range c.hubs {
		readers.Go(func() {
			for ctx.Err() == nil {
				for name, count := range f.counts(t) {
					if count != 1 && count != 2 {
						t.Errorf("hub %s counts %d by %s", f.hub.ID(), count, name)
					}
				}
				f.holderOf(t, one.ID())
			}
		})
	}
	for turn := range 30 {
		c.hubs[turn%3].moveTo(t, c.hubs[(turn+1)%3], one.ID())
	}
	stop()
	readers.Wait()
	for _, f := range c.hubs {
		f.holdCounted(t, "at rest")
		f.holdListed(t, "at rest", one.ID(), string(c.hubs[30%3].hub.ID()))
	}
}
