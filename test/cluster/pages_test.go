package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// stayers are connected all the time, in stayGroups groups.
	stayers    = 210
	stayGroups = 70
	// pageSize is so small that a listing has many pages.
	pageSize = 17
	// visitors come, join groups, leave them and go, at once.
	visitors = 4
)

// listPages proves that a listing of many pages, over all hubs and through any of them, has each
// lasting connection and group exactly once, and nothing twice, while connections and groups come
// and go.
func (c *cluster) listPages(t *testing.T, listings int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crowd := c.newCrowd(t)
	for i := range stayers {
		crowd.Add("default", fmt.Sprint("user-", i), "", fmt.Sprint("stay-", i%stayGroups))
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)

	over := make(chan struct{})
	var visiting sync.WaitGroup
	var visits atomic.Int64
	for i := range visitors {
		v := &visitor{cluster: c, number: i, random: rand.New(
			rand.NewPCG(seed, uint64(i)),
		), stayers: crowd.Members}
		visiting.Go(func() { bed.Report(t, v.comeAndGo(t.Context(), over, &visits)) })
	}
	finish := sync.OnceFunc(func() { close(over); visiting.Wait() })
	t.Cleanup(finish)
	testkit.Eventually(t, "visitors come", func() bool { return visits.Load() >= visitors })

	for i := range listings {
		n := c.nodes[i%len(c.nodes)]
		checkListing(t, n, crowd)
		checkGroups(t, n)
		m := crowd.Members[i]
		var got *controlv1.GetConnectionResponse
		var err error
		testkit.Eventually(t, "the hub of a connection answers", func() bool {
			request := &controlv1.GetConnectionRequest{Connection: m.ID}
			connections := controlv1.NewConnectionServiceClient(n.backend)
			got, err = connections.GetConnection(t.Context(), request)
			return status.Code(err) != codes.Unavailable
		})
		if err != nil ||
			got.GetConnection().GetUser() != m.User || got.GetConnection().GetHub() != m.Hub {
			t.Errorf("connection %s through hub %d: %v, %v", m.ID, n.number, got, err)
		}
	}
	finish()
	t.Logf("%d listings of connections and of groups, while there were %d visits",
		listings, visits.Load())
	c.checkInvariants(t)
}

// visitor comes and goes, and has stayers join and leave groups.
type visitor struct {
	cluster *cluster
	number  int
	random  *rand.Rand
	stayers []*tally.Member
}

func (v *visitor) comeAndGo(ctx context.Context, over <-chan struct{}, visits *atomic.Int64) error {
	node := func() *node { return v.cluster.nodes[v.random.IntN(len(v.cluster.nodes))] }
	for i := 0; ; i++ {
		select {
		case <-over:
			return nil
		default:
		}
		name := fmt.Sprint("visitor-", v.number, "-", i)
		client, err := v.cluster.admit(ctx, &tally.Member{
			Namespace: "default", User: name, Groups: []string{"visit-" + name},
		}, node(), node())
		if err != nil {
			return err
		}
		target := &controlv1.Target{
			Connections: []string{v.stayers[v.random.IntN(len(v.stayers))].ID},
		}
		groups := []string{fmt.Sprint("visit-", v.random.IntN(20))}
		if _, err := controlv1.NewGroupServiceClient(node().backend).AddToGroups(
			ctx, &controlv1.AddToGroupsRequest{Target: target, Groups: groups},
		); err != nil {
			return err
		}
		visits.Add(1)
		if _, err := controlv1.NewGroupServiceClient(node().backend).RemoveFromGroups(
			ctx, &controlv1.RemoveFromGroupsRequest{Target: target, Groups: groups},
		); err != nil {
			return err
		}
		if err := client.Conn.Close(); err != nil {
			return err
		}
	}
}

// checkListing goes through all connections, page by page.
func checkListing(t *testing.T, n *node, crowd *tally.Crowd) {
	t.Helper()
	seen := map[string]int{}
	request := &controlv1.ListConnectionsRequest{
		Target: &controlv1.Target{Everyone: true}, PageSize: pageSize,
	}
	for {
		page := tally.WholePage(t, func() (*controlv1.ListConnectionsResponse, error) {
			connections := controlv1.NewConnectionServiceClient(n.backend)
			return connections.ListConnections(t.Context(), request)
		})
		for _, listed := range page.GetConnections() {
			seen[listed.GetId()]++
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	for id, times := range seen {
		if times > 1 {
			t.Errorf("%s is listed %d times through hub %d", id, times, n.number)
		}
	}
	for _, m := range crowd.Members {
		if seen[m.ID] == 0 {
			t.Errorf("%s at hub %s is not listed through hub %d", m.ID, m.Hub, n.number)
		}
	}
}

// checkGroups lists all groups, page by page, and checks the numbers of members in groups that do
// not change.
func checkGroups(t *testing.T, n *node) {
	t.Helper()
	seen := map[string]int{}
	members := map[string]int{}
	request := &controlv1.ListGroupsRequest{PageSize: pageSize}
	for {
		page := tally.WholePage(t, func() (*controlv1.ListGroupsResponse, error) {
			return controlv1.NewGroupServiceClient(n.backend).ListGroups(t.Context(), request)
		})
		for _, g := range page.GetGroups() {
			seen[g.GetName()]++
			members[g.GetName()] = int(g.GetMembers())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	for name, times := range seen {
		if times > 1 {
			t.Errorf("group %s is listed %d times through hub %d", name, times, n.number)
		}
	}
	for i := range stayGroups {
		name := fmt.Sprint("stay-", i)
		if members[name] != stayers/stayGroups {
			t.Errorf("group %s has %d members through hub %d, want %d",
				name, members[name], n.number, stayers/stayGroups)
		}
	}
}

// TestKilledHubIsNamedUntilItIsGone proves that the remaining hubs name a killed hub as unreachable
// until its lease has ended and they have given it up. Its connections cannot be listed, which is
// not the same as an empty list.
func TestKilledHubIsNamedUntilItIsGone(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	crowd := c.newCrowd(t)
	for i := range 30 {
		crowd.Add("default", fmt.Sprint("user-", i), "", "group")
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	victim := c.nodes[2]
	lost := crowd.Members[2]
	victim.Kill(t)

	n := c.nodes[0]
	testkit.Eventually(t, "the link to the hub has ended", func() bool {
		return !n.hubs(t)[victim.Hub].GetReachable()
	})
	n.checkNamed(t, victim.Hub, lost)
	get := &controlv1.GetConnectionRequest{Connection: lost.ID}
	connections := controlv1.NewConnectionServiceClient(n.backend)
	testkit.Eventually(t, "the hub is gone", func() bool {
		_, err := connections.GetConnection(t.Context(), get)
		if code := status.Code(err); code != codes.Unavailable && code != codes.NotFound {
			t.Fatalf("a connection of a killed hub: %v", err)
		}
		return status.Code(err) == codes.NotFound
	})
	c.nodes = c.nodes[:2]
	for _, n := range c.nodes {
		testkit.Eventually(t, "every other hub finds it gone", func() bool {
			_, err := controlv1.NewConnectionServiceClient(n.backend).GetConnection(t.Context(),
				get)
			return status.Code(err) == codes.NotFound
		})
		c.checkSend(t, n, "default", 20)
	}
	marks := c.etcd.Dial(t)
	testkit.Eventually(t, "etcd forgets it, so that hubs that start don't look for it",
		func() bool {
			all, err := marks.Get(
				t.Context(), "/connhub/seen/", clientv3.WithPrefix(), clientv3.WithCountOnly(),
			)
			return err == nil && all.Count == int64(len(c.nodes))
		})
	c.checkInvariants(t)
}

// checkNamed checks that every answer to which a hub would contribute names the hub as unreachable,
// or is an error.
func (n *node) checkNamed(t *testing.T, lost string, m *tally.Member) {
	t.Helper()
	ctx := t.Context()
	connections, groups := controlv1.NewConnectionServiceClient(n.backend),
		controlv1.NewGroupServiceClient(n.backend)
	delivery := controlv1.NewDeliveryServiceClient(n.backend)
	everyone := &controlv1.Target{Everyone: true}
	message := &controlv1.Message{Payload: &controlv1.Message_Text{Text: tally.Ignored}}

	_, err := connections.GetConnection(ctx, &controlv1.GetConnectionRequest{Connection: m.ID})
	wantUnreachable(t, "GetConnection", err)
	_, err = delivery.Send(
		ctx, &controlv1.SendRequest{Target: everyone, Message: message, RequireAllHubs: true},
	)
	wantUnreachable(t, "Send with require_all_hubs", err)

	named := func(method string, hubs []string, err error) {
		t.Helper()
		if err != nil || !slices.Equal(hubs, []string{lost}) {
			t.Errorf("%s names %v as unreachable, want %s; %v", method, hubs, lost, err)
		}
	}
	sent, err := delivery.Send(ctx, &controlv1.SendRequest{Target: everyone, Message: message})
	named("Send", sent.GetReceipt().GetUnreachableHubs(), err)
	if got := sent.GetReceipt().GetMatched(); got != 20 {
		t.Errorf("Send matched %d, want 20", got)
	}
	listed, err := connections.ListConnections(
		ctx, &controlv1.ListConnectionsRequest{Target: everyone},
	)
	named("ListConnections", listed.GetUnreachableHubs(), err)
	if got := len(listed.GetConnections()); got != 20 {
		t.Errorf("ListConnections has %d, want 20", got)
	}
	all, err := groups.ListGroups(ctx, &controlv1.ListGroupsRequest{})
	named("ListGroups", all.GetUnreachableHubs(), err)
	group, err := groups.GetGroup(ctx, &controlv1.GetGroupRequest{Group: "group"})
	named("GetGroup", group.GetUnreachableHubs(), err)
	if got := group.GetGroup().GetMembers(); got != 20 {
		t.Errorf("GetGroup counts %d members, want 20", got)
	}
	joined, err := groups.AddToGroups(
		ctx, &controlv1.AddToGroupsRequest{Target: everyone, Groups: []string{"more"}},
	)
	named("AddToGroups", joined.GetUnreachableHubs(), err)
	left, err := groups.RemoveFromGroups(
		ctx, &controlv1.RemoveFromGroupsRequest{Target: everyone, Groups: []string{"more"}},
	)
	named("RemoveFromGroups", left.GetUnreachableHubs(), err)
	closed, err := connections.CloseConnections(ctx, &controlv1.CloseConnectionsRequest{
		Target: &controlv1.Target{Connections: []string{m.ID}},
	})
	named("CloseConnections", closed.GetUnreachableHubs(), err)
	if hub := n.hubs(t)[lost]; hub == nil || hub.GetReachable() {
		t.Errorf("ListHubs has %v", hub)
	}
}

func wantUnreachable(t *testing.T, method string, err error) {
	t.Helper()
	st := status.Convert(err)
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok &&
			info.GetReason() == "HUBS_UNREACHABLE" && st.Code() == codes.Unavailable {
			return
		}
	}
	t.Errorf("%s: %v, want UNAVAILABLE, HUBS_UNREACHABLE", method, err)
}
