package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// patience is how long a test waits for an event that must come.
const patience = 3 * time.Minute

// cluster is some hubs with everything but clients' sockets: a real etcd, real gRPC over loopback.
type cluster struct {
	etcd *embedded.Etcd
	hubs []*fixture
}

var clusters atomic.Int64

func newCluster(t testing.TB, n int, change ...func(*Config)) *cluster {
	t.Helper()
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress, config.NoSync = t.TempDir(), "127.0.0.1:0", true
	etcd, err := embedded.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	c := &cluster{etcd: etcd}
	for range n {
		c.start(t, change...)
	}
	c.settle(t)
	return c
}

// start adds a hub and waits until it is ready.
func (c *cluster) start(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	etcd := discovery.DefaultConfig()
	etcd.Endpoints, etcd.LeaseTTL = []string{c.etcd.Endpoint()}, 3*time.Second
	registry, err := discovery.New(etcd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	config := mesh.DefaultConfig()
	config.Self, config.Name, config.Registry = hub.NewID(),
		fmt.Sprint("pod-", clusters.Add(1)), registry
	config.Address, config.Secret = listener.Addr().String(), peerSecret
	meshMetrics := prometheus.NewRegistry()
	config.Metrics = meshMetrics
	m, err := mesh.New(config)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, func(h *hub.Config) {
		h.ID, h.Interest = config.Self, m
		h.Outbox.Messages = 10_000 // sends from peers may come in bursts
	})
	f := newFixture(t, append([]func(*Config){
		func(f *Config) { f.Hub, f.Mesh = h, m },
	}, change...)...)
	f.hub, f.meshMetrics = h, meshMetrics
	m.Moves.Enable(h, mesh.Clients{
		Speaks: speaksResumable, Restore: restoreClaims, ResumeWindow: time.Minute,
	})
	f.serveOn(t, listener)
	ran := make(chan error, 1)
	go func() { ran <- m.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(m.Close(ctx), <-ran); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-m.Ready():
	case <-time.After(patience):
		t.Fatal("the hub is not ready")
	}
	c.hubs = append(c.hubs, f)
	return f
}

// settle waits until every hub filters by the interests of all the rest.
func (c *cluster) settle(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		for _, f := range c.hubs {
			resp, err := f.hubs.ListHubs(t.Context(), &controlv1.ListHubsRequest{})
			if err != nil {
				return err
			}
			for _, h := range resp.GetHubs() {
				if len(resp.GetHubs()) != len(c.hubs) || !h.GetLease() || !h.GetRegistered() {
					return fmt.Errorf("hub %s sees %v", f.hub.ID(), resp.GetHubs())
				}
			}
		}
		return nil
	})
}

// losesSightOf waits until there is no link to a hub. Before that a send to clients of the rest may
// leave out the hub, rightly: the hub has just told its interests.
func (f *fixture) losesSightOf(t *testing.T, id string) {
	t.Helper()
	eventually(t, func() error {
		resp, err := f.hubs.ListHubs(t.Context(), &controlv1.ListHubsRequest{})
		for _, h := range resp.GetHubs() {
			if h.GetId() == id && h.GetReachable() {
				return fmt.Errorf("hub %s is reached: %v", id, h)
			}
		}
		return err
	})
}

// eventually asks until there is no error.
func eventually(t testing.TB, ask func() error) {
	t.Helper()
	var err error
	if !testkit.Holds(t, func() bool { err = ask(); return err == nil }) {
		t.Fatal(err)
	}
}

func groupsTarget(names ...string) *controlv1.Target { return &controlv1.Target{Groups: names} }

func TestASendReachesTheMatchesOfEveryHub(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	a := c.hubs[0].connect(t, p, "ann", "lobby")
	b := c.hubs[1].connect(t, p, "bob", "lobby", "blue")
	d := c.hubs[2].connect(t, p, "ann")
	slow := c.hubs[2].connect(t, p, "eve")
	slow.stall(true)

	var sent strings.Builder
	for _, f := range c.hubs {
		req := &controlv1.SendRequest{
			Target: &controlv1.Target{
				Users:       []string{"ann", "nobody", "eve"},
				Groups:      []string{"lobby", "empty"},
				Connections: []string{string(b.ID()), "x.y"},
			},
			Wait:        controlv1.Wait_WAIT_WRITTEN,
			WaitTimeout: durationpb.New(time.Second), // a tenth is for the way back
			Detail:      controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS,
		}
		want := &controlv1.Receipt{
			Matched: 4, Written: 3, Queued: 1, NotAckable: 3,
			Unmatched: &controlv1.Unmatched{
				Connections: []string{"x.y"}, Users: []string{"nobody"}, Groups: []string{"empty"},
			},
		}
		// A busy machine may need longer than a tenth: then the receipt names the hub, and the next
		// send has its chance.
		var receipt *controlv1.Receipt
		testkit.Eventually(t, "a receipt of every hub", func() bool {
			req.Message = text("x")
			sent.WriteString("x|")
			receipt = f.send(t, req)
			return len(receipt.GetUnreachableHubs()) == 0
		})
		holdReceipt(t, want, receipt)
	}
	slow.stall(false)
	for _, client := range []*client{a, b, d, slow} {
		testkit.Eventually(t, "every send", func() bool {
			return client.received() == sent.String()
		})
	}

	except := &controlv1.SendRequest{
		Target: &controlv1.Target{Everyone: true, Except: &controlv1.Exclusion{
			Users: []string{"ann"}, Connections: []string{string(slow.ID())},
		}},
		Message: text("3"),
	}
	holdReceipt(
		t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, c.hubs[0].send(t, except),
	)
	if have := b.received(); have != sent.String()+"3|" {
		t.Errorf("received %q", have)
	}
}

func TestARetryThroughAnotherHubDeliversWhatIsLeftOut(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	clients := []*client{c.hubs[0].connect(t, p, "ann"), c.hubs[1].connect(t, p, "ann")}
	req := &controlv1.SendRequest{
		Target: users("ann"), Message: text("x"), RequestId: "r", Wait: controlv1.Wait_WAIT_WRITTEN,
	}
	first := c.hubs[0].send(t, req)
	holdReceipt(t, &controlv1.Receipt{Matched: 2, Written: 2, NotAckable: 2}, first)
	late := c.hubs[2].connect(t, p, "ann")
	again := c.hubs[1].send(t, req)
	holdReceipt(
		t, &controlv1.Receipt{Matched: 3, Written: 3, NotAckable: 3, Duplicate: true}, again,
	)
	if again.GetMessageId() != first.GetMessageId() {
		t.Errorf("message %s, then %s", first.GetMessageId(), again.GetMessageId())
	}
	for _, client := range append(clients, late) {
		if have := client.received(); have != "x|" {
			t.Errorf("received %q", have)
		}
	}
	other := &controlv1.SendRequest{Target: users("ann"), Message: text("y"), RequestId: "r"}
	_, err := c.hubs[2].delivery.Send(t.Context(), other)
	failuretest.HoldError(t, err, codes.AlreadyExists, "REQUEST_ID_REUSED")
}

func TestGroupVerbsReachEveryHub(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	for _, f := range c.hubs {
		f.connect(t, p, "ann", "old")
	}
	for i, f := range c.hubs {
		added, err := f.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
			Target: users("ann"), Groups: []string{"old", fmt.Sprint("new", i)},
		})
		hold(t, err, &controlv1.AddToGroupsResponse{Matched: 3, Added: 3, Already: 3}, added)
		next := c.hubs[(i+1)%3]
		holdReceipt(t, &controlv1.Receipt{Matched: 3, Written: 3, NotAckable: 3}, next.send(t,
			&controlv1.SendRequest{Target: groupsTarget(fmt.Sprint("new", i)), Message: text("x")}))
		got, err := next.groups.GetGroup(
			t.Context(), &controlv1.GetGroupRequest{Group: fmt.Sprint("new", i)},
		)
		hold(t, err, &controlv1.GetGroupResponse{
			Group: &controlv1.Group{Name: fmt.Sprint("new", i), Members: 3},
		}, got)
	}
	removed, err := c.hubs[1].groups.RemoveFromGroups(
		t.Context(), &controlv1.RemoveFromGroupsRequest{Target: users("ann"), AllGroups: true},
	)
	hold(t, err, &controlv1.RemoveFromGroupsResponse{Matched: 3, Removed: 12}, removed)
	_, err = c.hubs[2].groups.GetGroup(t.Context(), &controlv1.GetGroupRequest{Group: "old"})
	failuretest.HoldError(t, err, codes.NotFound, "GROUP_NOT_FOUND")
	holdReceipt(t, &controlv1.Receipt{}, c.hubs[2].send(
		t, &controlv1.SendRequest{Target: groupsTarget("old"), Message: text("x")},
	))
}

func TestClosingCountsAtEveryHubFirst(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	var all []*client
	for _, f := range c.hubs {
		all = append(all, f.connect(t, p, "ann"), f.connect(t, p, "bob"))
	}
	_, err := c.hubs[0].connections.CloseConnections(
		t.Context(), &controlv1.CloseConnectionsRequest{Target: everyone(), MaxMatched: 5},
	)
	failuretest.HoldError(t, err, codes.FailedPrecondition, "TOO_MANY_MATCHED")
	for _, f := range c.hubs {
		if f.hub.Len() != 2 {
			t.Errorf("a hub has %d left", f.hub.Len())
		}
	}
	closed, err := c.hubs[1].connections.CloseConnections(t.Context(),
		&controlv1.CloseConnectionsRequest{Target: users("ann"), Code: 3000, Reason: "bye"})
	hold(t, err, &controlv1.CloseConnectionsResponse{Matched: 3, Closed: 3}, closed)
	closed, err = c.hubs[2].connections.CloseConnections(
		t.Context(), &controlv1.CloseConnectionsRequest{Target: everyone(), MaxMatched: 3},
	)
	hold(t, err, &controlv1.CloseConnectionsResponse{Matched: 3, Closed: 3}, closed)
	for i, client := range all {
		want := cause.CloseStatus{Cause: cause.Backend, Code: 3000, Reason: "bye"}
		if i%2 == 1 {
			want.Code, want.Reason = closeNormal, ""
		}
		if diff := cmp.Diff(want, client.goodbye(t)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestConnectionsAreFoundFromEveryHub(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	want := make(map[string]*controlv1.Connection)
	for i := range 30 {
		client := c.hubs[i%3].attachAs(t, p, hub.Admission{
			User: fmt.Sprint("user-", i%7), Groups: []string{fmt.Sprint("group-", i%5)},
			Claims: &hub.Claims{Labels: map[string]string{"number": fmt.Sprint(i)}},
		})
		if err := client.Bind(client); err != nil {
			t.Fatal(err)
		}
		info := client.Info()
		want[string(client.ID())] = form.NewConnection(&info)
	}
	for _, f := range c.hubs {
		for id, connection := range want {
			got, err := f.connections.GetConnection(
				t.Context(), &controlv1.GetConnectionRequest{Connection: id},
			)
			hold(t, err, &controlv1.GetConnectionResponse{Connection: connection}, got)
		}
		listed := make(map[string]*controlv1.Connection)
		for page := range pagesOf(t, f, everyone(), 7) {
			for _, connection := range page {
				if listed[connection.GetId()] != nil {
					t.Errorf("%s is listed twice", connection.GetId())
				}
				listed[connection.GetId()] = connection
			}
		}
		if diff := cmp.Diff(want, listed, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		resp, err := f.groups.ListGroups(t.Context(), &controlv1.ListGroupsRequest{PageSize: 3})
		if err != nil {
			t.Fatal(err)
		}
		rest, err := f.groups.ListGroups(t.Context(), &controlv1.ListGroupsRequest{
			PageSize: 3, PageToken: resp.GetNextPageToken(),
		})
		if err != nil {
			t.Fatal(err)
		}
		groups := append(resp.GetGroups(), rest.GetGroups()...)
		slices.SortFunc(groups, func(a, b *controlv1.Group) int {
			return cmpNames(a.GetName(), b.GetName())
		})
		var wantGroups []*controlv1.Group
		for i := range 5 {
			wantGroups = append(
				wantGroups, &controlv1.Group{Name: fmt.Sprint("group-", i), Members: 6},
			)
		}
		if diff := cmp.Diff(
			wantGroups, groups, protocmp.Transform(),
		); diff != "" || rest.GetNextPageToken() != "" {
			t.Error(diff, rest.GetNextPageToken())
		}
	}
	unknown := string(hub.NewID()) + string(c.hubs[0].attach(t, p, "").ID())[8:]
	_, err := c.hubs[0].connections.GetConnection(
		t.Context(), &controlv1.GetConnectionRequest{Connection: unknown},
	)
	failuretest.HoldError(t, err, codes.NotFound, "CONNECTION_NOT_FOUND")
	gone := string(c.hubs[1].hub.ID()) + unknown[8:]
	_, err = c.hubs[0].connections.GetConnection(
		t.Context(), &controlv1.GetConnectionRequest{Connection: gone},
	)
	failuretest.HoldError(t, err, codes.NotFound, "CONNECTION_NOT_FOUND")
}

// pagesOf lists connections page by page.
func pagesOf(
	t *testing.T, f *fixture, target *controlv1.Target, size int32,
) func(yield func([]*controlv1.Connection) bool) {
	return func(yield func([]*controlv1.Connection) bool) {
		req := &controlv1.ListConnectionsRequest{Target: target, PageSize: size}
		for {
			resp, err := f.connections.ListConnections(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.GetUnreachableHubs()) > 0 ||
				!yield(resp.GetConnections()) || resp.GetNextPageToken() == "" {
				return
			}
			req.PageToken = resp.GetNextPageToken()
		}
	}
}

func cmpNames(a, b string) int { return slices.Compare([]string{a}, []string{b}) }

func TestAHubThatWentWithoutAWordIsNamed(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	lost := c.hubs[2]
	connection := lost.connect(t, p, "ann", "lobby")
	id := string(lost.hub.ID())
	lost.server.grpc.Stop() // the hub answers no more, and its key stands

	for _, f := range c.hubs[:2] {
		f.losesSightOf(t, id)
	}
	receipt := c.hubs[0].send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
	if !slices.Equal(receipt.GetUnreachableHubs(), []string{id}) || receipt.GetMatched() != 0 {
		t.Errorf("receipt %v", receipt)
	}
	_, err := c.hubs[0].delivery.Send(t.Context(), &controlv1.SendRequest{
		Target: users("nobody"), Message: text("x"), RequireAllHubs: true,
	})
	failuretest.HoldError(t, err, codes.Unavailable, "HUBS_UNREACHABLE")
	_, err = c.hubs[0].connections.GetConnection(
		t.Context(), &controlv1.GetConnectionRequest{Connection: string(connection.ID())},
	)
	failuretest.HoldError(t, err, codes.Unavailable, "HUBS_UNREACHABLE")
	_, err = c.hubs[0].groups.GetGroup(t.Context(), &controlv1.GetGroupRequest{Group: "lobby"})
	failuretest.HoldError(t, err, codes.Unavailable, "HUBS_UNREACHABLE")
	added, err := c.hubs[0].groups.AddToGroups(
		t.Context(), &controlv1.AddToGroupsRequest{Target: users("ann"), Groups: []string{"g"}},
	)
	hold(t, err, &controlv1.AddToGroupsResponse{UnreachableHubs: []string{id}}, added)
	listed, err := c.hubs[1].connections.ListConnections(
		t.Context(), &controlv1.ListConnectionsRequest{Target: everyone()},
	)
	hold(t, err, &controlv1.ListConnectionsResponse{UnreachableHubs: []string{id}}, listed)
}

// hold compares an answer, but for fields that can't be foreseen.
func hold[T any](t *testing.T, err error, want, have T) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	if diff := cmp.Diff(want, have, protocmp.Transform(), cmpopts.EquateEmpty(), anyStaleness,
		protocmp.IgnoreFields(&controlv1.Connection{}, "round_trip_time")); diff != "" {
		t.Error(diff)
	}
}

// anyStaleness leaves out for how long the list of hubs has not been confirmed. On a busy machine
// that is some seconds, and the answer says so.
var anyStaleness = cmp.FilterPath(func(p cmp.Path) bool {
	field, ok := p.Last().(cmp.MapIndex)
	return ok && field.Key().String() == "discovery_stale_for"
}, cmp.Ignore())

func TestAnIDOfAnotherRequestDeliversNothingElsewhere(t *testing.T) {
	c := newCluster(t, 2)
	p := &wireProtocol{}
	ann, bob := c.hubs[0].connect(t, p, "ann"), c.hubs[1].connect(t, p, "bob")
	c.hubs[0].send(
		t, &controlv1.SendRequest{Target: users("ann"), Message: text("x"), RequestId: "r"},
	)
	_, err := c.hubs[0].delivery.Send(t.Context(), &controlv1.SendRequest{
		Target: users("ann", "bob"), Message: text("y"), RequestId: "r",
	})
	failuretest.HoldError(t, err, codes.AlreadyExists, "REQUEST_ID_REUSED")
	c.hubs[0].send(t, &controlv1.SendRequest{
		Target: users("bob"), Message: text("z"), Wait: controlv1.Wait_WAIT_WRITTEN,
	})
	if ann.received() != "x|" || bob.received() != "z|" {
		t.Errorf("received %q, %q", ann.received(), bob.received())
	}
}

func TestAHubThatLeavesRefusesBackendsAndAnswersHubs(t *testing.T) {
	c := newCluster(t, 2)
	leaving := c.hubs[1]
	connection := leaving.connect(t, &wireProtocol{}, "ann", "lobby")
	leaving.server.Leave()
	<-leaving.server.Quiet()
	_, err := leaving.hubs.ListHubs(t.Context(), &controlv1.ListHubsRequest{})
	failuretest.HoldError(t, err, codes.Unavailable, "SHUTTING_DOWN")
	info := connection.Info()
	got, err := c.hubs[0].connections.GetConnection(
		t.Context(), &controlv1.GetConnectionRequest{Connection: string(connection.ID())},
	)
	hold(t, err, &controlv1.GetConnectionResponse{Connection: form.NewConnection(&info)}, got)
	group, err := c.hubs[0].groups.GetGroup(t.Context(), &controlv1.GetGroupRequest{Group: "lobby"})
	hold(t, err, &controlv1.GetGroupResponse{
		Group: &controlv1.Group{Name: "lobby", Members: 1},
	}, group)
	holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, c.hubs[0].send(
		t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")},
	))
}

// brokenProtocol can't encode.
type brokenProtocol struct{ wireProtocol }

func (p *brokenProtocol) Encode(*hub.Message, hub.Route) []byte { panic("broken") }

func TestAPanicAtAnotherHubCostsItsOwnCallOnly(t *testing.T) {
	c := newCluster(t, 2)
	c.hubs[1].connect(t, &brokenProtocol{}, "ann")
	bob := c.hubs[1].connect(t, &wireProtocol{}, "bob")
	receipt := c.hubs[0].send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
	if !slices.Equal(receipt.GetUnreachableHubs(), []string{string(c.hubs[1].hub.ID())}) {
		t.Errorf("receipt %v", receipt)
	}
	holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, c.hubs[0].send(
		t, &controlv1.SendRequest{Target: users("bob"), Message: text("y")},
	))
	if bob.received() != "y|" {
		t.Errorf("received %q", bob.received())
	}
}

func TestWhatAPeerSendsIsCheckedAgain(t *testing.T) {
	f := newFixture(t)
	validator, err := form.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{f.hub, validator.Check, slogTo(f.log), newVerbTable(), nil}
	f.connect(t, &wireProtocol{}, "ann")
	join := func(req *controlv1.AddToGroupsRequest) *mesh.Call {
		call, err := newVerbCall(t.Context(), &joinVerb, req)
		if err != nil {
			t.Fatal(err)
		}
		return call
	}
	for _, call := range []*mesh.Call{
		join(&controlv1.AddToGroupsRequest{Target: users("ann"), Groups: []string{""}}),
		join(&controlv1.AddToGroupsRequest{Target: users("ann"), Groups: []string{"a\x00b"}}),
		join(&controlv1.AddToGroupsRequest{
			Target: users("ann"), Groups: []string{"g"}, Namespace: "No",
		}),
		join(&controlv1.AddToGroupsRequest{Groups: []string{"g"}}),
	} {
		if errorIn(executed(t, e, call.Forward)) == nil {
			t.Errorf("%v was executed", call.Forward)
		}
	}
	if n := f.hub.Count(
		hub.DefaultNamespace, &hub.Target{Groups: []string{"", "a\x00b", "g"}},
	); n != 0 {
		t.Error("somebody joined")
	}
}

// executed is the result of a forward that waits for nothing.
func executed(t *testing.T, e *executor, f *peerv1.Forward) *peerv1.ForwardResult {
	t.Helper()
	var burst hub.Burst
	x := e.Execute(t.Context(), f, mesh.Scope{}, &burst)
	burst.Flush()
	if x.Awaited != nil {
		t.Errorf("%v waits", f)
	}
	return x.Result()
}
