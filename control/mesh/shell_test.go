package mesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// bubble is a cluster of meshes with real gRPC between them, over memory: everything but etcd. It lives in a synctest bubble.
type bubble struct {
	t *testing.T

	mu        sync.Mutex
	listeners map[string]*bufconn.Listener // by address; nil: nobody listens
	hubs      []*member
	keys      map[string]discovery.Member // what etcd has
}

// member is one hub of the bubble.
type member struct {
	*Mesh
	bubble    *bubble
	id        hub.ID
	address   string
	server    *grpc.Server
	snapshots chan discovery.Snapshot
	dead      chan struct{}
	stop      context.CancelFunc
	log       bytes.Buffer

	mu       sync.Mutex
	executed []*peerv1.Forward
	hold     chan struct{} // when not nil: Execute's results wait for it
}

func newBubble(t *testing.T) *bubble {
	return &bubble{t: t, listeners: make(map[string]*bufconn.Listener), keys: make(map[string]discovery.Member)}
}

func (b *bubble) dial(ctx context.Context, address string) (net.Conn, error) {
	b.mu.Lock()
	l := b.listeners[address]
	b.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	return l.DialContext(ctx)
}

// start starts a hub, lists it and waits until it is ready.
func (b *bubble) start(id string, change ...func(*Config)) *member {
	b.t.Helper()
	h := &member{bubble: b, id: hub.ID(id), address: id + ":9090", snapshots: make(chan discovery.Snapshot, 1), dead: make(chan struct{})}
	c := DefaultConfig()
	c.Self, c.Name, c.Address, c.Registry, c.dial = h.id, "pod-"+id, h.address, &discovery.Registry{}, b.dial
	c.Logger = slog.New(slog.NewTextHandler(&h.log, nil))
	for _, f := range change {
		f(&c)
	}
	var err error
	if h.Mesh, err = New(c); err != nil {
		b.t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	b.mu.Lock()
	b.listeners[h.address] = listener
	b.hubs = append(b.hubs, h)
	b.mu.Unlock()
	h.server = grpc.NewServer(grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}))
	peerv1.RegisterPeerServiceServer(h.server, h.Service(h))
	go func() { _ = h.server.Serve(listener) }()
	h.open("cluster")
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	followed := make(chan struct{})
	go func() { defer close(followed); _ = h.follow(ctx, h.snapshots, h.dead) }()
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		h.stop()
		<-followed
		if err := h.Close(ctx); err != nil {
			b.t.Error(err)
		}
		b.mu.Lock()
		b.listeners[h.address] = nil
		b.mu.Unlock()
		h.server.Stop()
		if b.t.Failed() {
			b.t.Logf("log of %s:\n%s", h.id, h.log.String())
		}
	})
	b.list(id, h.address)
	<-h.Ready()
	return h
}

// list writes a key into etcd.
func (b *bubble) list(id, address string) {
	b.keys[id] = discovery.Member{ID: id, ControlAddress: address}
	for _, h := range b.hubs {
		members := make(map[string]discovery.Member)
		for id, m := range b.keys {
			members[id] = m
		}
		select {
		case <-h.snapshots:
		default:
		}
		h.snapshots <- discovery.Snapshot{Members: members}
	}
}

// Execute implements Executor.
func (h *member) Execute(_ context.Context, f *peerv1.Forward) (*peerv1.ForwardResult, func(context.Context) *peerv1.ForwardResult) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.executed = append(h.executed, f)
	result := &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}}}
	if hold := h.hold; hold != nil {
		return nil, func(ctx context.Context) *peerv1.ForwardResult {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return result
		}
	}
	return result, nil
}

// Read implements Executor.
func (h *member) Read(context.Context, *peerv1.ReadRequest) (*peerv1.ReadResponse, error) {
	return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Self{}}, nil
}

// requests returns what was executed, as the senders numbered it.
func (h *member) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, f := range h.executed {
		all = append(all, string(f.GetSend().GetRequest()))
	}
	return all
}

// join takes a reference and waits until it is in force.
func (h *member) join(t *testing.T, k hub.Key) {
	t.Helper()
	h.Add(k)
	if err := h.InForce(t.Context(), []hub.Key{k}); err != nil {
		t.Fatal(err)
	}
}

// send routes and forwards one call, and waits for its outcomes.
func (h *member) send(ctx context.Context, caller, text string, q Query) (Route, []Outcome) {
	r := h.Route(q)
	return r, h.forward(ctx, caller, text, r.To).Wait(ctx)
}

func (h *member) forward(ctx context.Context, caller, text string, to []Destination) *Gathering {
	send := &peerv1.ForwardSend{Request: []byte(text)}
	return h.Forward(ctx, &Call{Caller: caller, Began: time.Now(), Forward: &peerv1.Forward{Call: &peerv1.Forward_Send{Send: send}}}, to)
}

func group(name string) (hub.Key, Query) {
	return hub.Key{Kind: hub.RouteGroup, Namespace: "default", Name: name}, Query{Hashes: []Hash{HashOf(KindGroup, "default", name)}}
}

func TestThreeHubsFindEachOtherAndSendOnlyWhereSomebodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		x, y, z := b.start("a"), b.start("b"), b.start("c")
		lobby, toLobby := group("lobby")
		began := time.Now()
		y.join(t, lobby)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a join among hubs that answer took %v", took)
		}
		time.Sleep(time.Second)
		for n := range 10 {
			for _, from := range []*member{x, z} {
				route, outcomes := from.send(t.Context(), "me", fmt.Sprint(from.id, n), toLobby)
				if len(route.To) != 1 || route.To[0].Flood || len(outcomes) != 1 || outcomes[0].Hub != "b" || outcomes[0].Result == nil {
					t.Fatalf("%s: route %+v, outcomes %v", from.id, route, outcomes)
				}
			}
		}
		if n := len(y.requests()); n != 20 {
			t.Errorf("b executed %d", n)
		}
		if n := len(x.requests()) + len(z.requests()); n != 0 {
			t.Errorf("%d went where nobody is", n)
		}
		time.Sleep(10 * time.Minute)
		for _, h := range b.hubs {
			for _, p := range h.Peers() {
				if p.State != PeerLinked || !p.Lease {
					t.Errorf("10 minutes later %s sees %+v", h.id, p)
				}
			}
		}
	})
}

func TestCallsOfOneCallerStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		x, y := b.start("a"), b.start("b")
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		y.hold = make(chan struct{})
		var want []string
		var gatherings []*Gathering
		for n := range 3000 {
			want = append(want, fmt.Sprint(n))
			gatherings = append(gatherings, x.forward(t.Context(), "me", fmt.Sprint(n), x.Route(toLobby).To))
		}
		synctest.Wait()
		if !slices.Equal(y.requests(), want) {
			t.Errorf("executed %v", y.requests())
		}
		close(y.hold)
		for _, g := range gatherings {
			if o := g.Wait(t.Context()); o[0].Result == nil {
				t.Fatal("an outcome is unknown")
			}
		}
	})
}
