package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/discovery"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// bubble is a cluster of meshes with real gRPC between them, over cables: all but etcd is real. It
// lives in a synctest bubble.
type bubble struct {
	t testing.TB

	mu        sync.Mutex
	listeners map[string]*testkit.CableListener // by address; nil: the address refuses
	mute      map[string]bool                   // addresses that neither take nor refuse a dial
	cables    map[*testkit.Cable]string         // with the latest RPC on each
	hubs      []*member
	keys      map[string]discovery.Member // the keys in etcd
}

// cableBytes is the capacity of a direction of a cable, as that of two kernels' buffers.
const cableBytes = 64 << 10

// The purposes of a cable.
const (
	controlCable = "Control"
	dataCable    = "Data"
)

// member is a hub of the bubble.
type member struct {
	*Mesh
	bubble    *bubble
	id        hub.ID
	address   string
	server    *grpc.Server
	registry  *prometheus.Registry
	snapshots chan discovery.Snapshot
	stop      context.CancelFunc // ends the goroutine that follows etcd and time
	followed  chan struct{}
	down      func() error // ends the hub; may be called again
	log       testkit.LockedBuffer

	mu       sync.Mutex
	executed []*peerv1.Forward
	hold     *gate                    // when not nil: Execute's results wait for it
	block    map[string]chan struct{} // by caller: Execute waits for it
	// when not nil: Execute waits for it, regardless of ctx, and does nothing
	stubborn chan struct{}
	// when not nil: Execute appends each executed call, and later its answer
	order []string
	read  func(ctx context.Context) (*peerv1.ReadResponse, error)
}

func newBubble(t testing.TB) *bubble {
	return &bubble{
		t: t, listeners: make(map[string]*testkit.CableListener), mute: make(map[string]bool),
		cables: make(map[*testkit.Cable]string), keys: make(map[string]discovery.Member),
	}
}

// dialFrom returns the dial function of the hub at an address.
func (b *bubble) dialFrom(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		b.mu.Lock()
		l, mute := b.listeners[address], b.mute[address]
		b.mu.Unlock()
		switch {
		case mute:
			<-ctx.Done()
			return nil, ctx.Err()
		case l == nil:
			return nil, syscall.ECONNREFUSED
		}
		w := testkit.NewCable(from, address, cableBytes)
		b.mu.Lock()
		maps.DeleteFunc(b.cables, func(w *testkit.Cable, _ string) bool { return w.IsOver() })
		b.cables[w] = ""
		b.mu.Unlock()
		return l.Connect(ctx, w)
	}
}

// serve starts a gRPC server at an address.
func (b *bubble) serve(address string, service peerv1.PeerServiceServer) *grpc.Server {
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(64<<20),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo,
			handle grpc.StreamHandler,
		) error {
			if p, ok := grpcpeer.FromContext(stream.Context()); ok {
				b.mu.Lock()
				method := info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:]
				if method == "Move" { // with the lanes
					method = dataCable
				}
				b.cables[p.Addr.(testkit.CableAddr).Cable] = method
				b.mu.Unlock()
			}
			return handle(srv, stream)
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 10 * time.Second, PermitWithoutStream: true,
		}))
	peerv1.RegisterPeerServiceServer(server, service)
	l := testkit.ListenCable(cableBytes)
	b.mu.Lock()
	b.listeners[address] = l
	b.mu.Unlock()
	go func() { _ = server.Serve(l) }()
	return server
}

// between returns the cables by which a hub reaches a peer.
func (b *bubble) between(from, to *member, use string) (all []*testkit.Cable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w, is := range b.cables {
		if w.From == from.address && w.To == to.address && is == use && !w.IsOver() {
			all = append(all, w)
		}
	}
	return all
}

// stall stops the present cables between two hubs in the given directions, or lets them flow.
func (b *bubble) stall(x, y *member, forth, back bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.cables {
		switch {
		case w.From == x.address && w.To == y.address:
			w.Stall(forth, back)
		case w.From == y.address && w.To == x.address:
			w.Stall(back, forth)
		}
	}
}

// cut breaks all cables by which a hub reaches a peer.
func (b *bubble) cut(from, to *member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.cables {
		if w.From == from.address && w.To == to.address {
			w.Cut()
		}
	}
}

// configure returns the config of a hub of the bubble.
func (b *bubble) configure(h *member) Config {
	c := DefaultConfig()
	c.Self, c.Name, c.Zone, c.Version, c.Address = h.id, "pod-"+string(h.id), "zone", "v1",
		h.address
	c.Registry, c.dial = &discovery.Registry{}, b.dialFrom(h.address)
	c.Logger, c.Metrics = slog.New(slog.NewTextHandler(&h.log, nil)), h.registry
	return c
}

// launch starts a hub that is not listed and has not read etcd's keys.
func (b *bubble) launch(id string, change ...func(*Config)) *member {
	b.t.Helper()
	h := &member{
		bubble: b, id: hub.ID(id), address: id + ":9090", registry: prometheus.NewRegistry(),
		snapshots: make(chan discovery.Snapshot, 1), followed: make(chan struct{}),
	}
	c := b.configure(h)
	for _, f := range change {
		f(&c)
	}
	h.address = c.Address
	var err error
	if h.Mesh, err = New(c); err != nil {
		b.t.Fatal(err)
	}
	b.hubs = append(b.hubs, h)
	h.server = b.serve(h.address, h.Service(h))
	h.openCluster("cluster")
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	go func() { defer close(h.followed); _ = h.followCluster(ctx, h.snapshots, nil) }()
	h.down = sync.OnceValue(h.shutDown)
	b.t.Cleanup(func() {
		if err := h.down(); err != nil {
			b.t.Error(err)
		}
		if b.t.Failed() {
			b.t.Logf("log of %s:\n%s", h.id, &h.log)
		}
	})
	return h
}

// start launches a hub, lists it and waits until it is ready.
func (b *bubble) start(id string, change ...func(*Config)) *member {
	b.t.Helper()
	h := b.launch(id, change...)
	b.list(id, h.address)
	<-h.Ready()
	return h
}

// shutDown ends a hub as a process does on SIGTERM.
func (h *member) shutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h.stop()
	<-h.followed
	err := h.Close(ctx)
	h.gone()
	h.server.Stop()
	return err
}

// crash ends a hub without a farewell.
func (h *member) crash() {
	b := h.bubble
	h.gone()
	b.mu.Lock()
	for w := range b.cables {
		if w.From == h.address || w.To == h.address {
			w.Cut()
		}
	}
	b.mu.Unlock()
	_ = h.down()
}

// gone makes the hub's address refuse connections, unless another hub has taken the address over.
func (h *member) gone() {
	h.bubble.mu.Lock()
	defer h.bubble.mu.Unlock()
	for address, l := range h.bubble.listeners {
		if address == h.address && l != nil {
			_ = l.Close()
			delete(h.bubble.listeners, address)
		}
	}
	h.bubble.hubs = slices.DeleteFunc(h.bubble.hubs, func(other *member) bool { return other == h })
}

// list writes a key into etcd; unlist deletes it.
func (b *bubble) list(id, address string) {
	b.keys[id] = discovery.Member{ID: id, ControlAddress: address}
	b.inform()
}

func (b *bubble) unlist(id string) {
	delete(b.keys, id)
	b.inform()
}

func (b *bubble) inform() {
	for _, h := range b.hubs {
		select {
		case <-h.snapshots:
		default:
		}
		h.snapshots <- discovery.Snapshot{Members: maps.Clone(b.keys)}
	}
}

// Execute implements Executor.
func (h *member) Execute(
	ctx context.Context, f *peerv1.Forward, _ Scope, _ *hub.Burst,
) (x Execution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stubborn := h.stubborn; stubborn != nil {
		h.mu.Unlock()
		<-stubborn
		h.mu.Lock()
		return Execution{Result: func() *peerv1.ForwardResult {
			return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{}}
		}}
	}
	if block := h.block[f.GetCaller()]; block != nil {
		h.mu.Unlock()
		select {
		case <-block:
		case <-ctx.Done():
		}
		h.mu.Lock()
	}
	h.executed = append(h.executed, f)
	result := &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}}}
	x.Result = func() *peerv1.ForwardResult { return result }
	if h.order != nil {
		h.order = append(h.order, fmt.Sprint("execute ", f.GetSequence()))
		x.Result = func() *peerv1.ForwardResult {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.order = append(h.order, fmt.Sprint("answer ", f.GetSequence()))
			return result
		}
	}
	if h.hold != nil {
		x.Awaited, x.Until = AwaitedFunc(h.hold.then), time.Now().Add(h.hold.patience)
	}
	return x
}

// Merge implements Executor. The hubs of a bubble have no connections that move.
func (h *member) Merge(sum, part *peerv1.ForwardResult) *peerv1.ForwardResult {
	if sum != nil {
		h.bubble.t.Error("two parts of a call")
	}
	return part
}

// InTransfer implements Executor.
func (h *member) InTransfer(
	_ *peerv1.Forward, r *peerv1.ForwardResult, _ []hub.ConnectionID,
) *peerv1.ForwardResult {
	h.bubble.t.Error("a call is held")
	return r
}

// Read implements Executor.
func (h *member) Read(ctx context.Context, _ *peerv1.ReadRequest) (*peerv1.ReadResponse, error) {
	h.mu.Lock()
	read := h.read
	h.mu.Unlock()
	if read != nil {
		return read(ctx)
	}
	return &peerv1.ReadResponse{Read: &peerv1.ReadResponse_Self{}}, nil
}

// ask reads from a peer. (The Executor's Read hides Mesh.Read.)
func (h *member) ask(ctx context.Context, to hub.ID) (*peerv1.ReadResponse, error) {
	return h.Mesh.Read(ctx, to, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Self{Self: &peerv1.ReadHub{}},
	})
}

// requests returns the executed calls, by the numbers of their senders.
func (h *member) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, f := range h.executed {
		all = append(all, string(f.GetSend().GetRequest()))
	}
	return all
}

// count returns the number of executed calls.
func (h *member) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.executed)
}

// join adds a reference and waits until it is in force.
func (h *member) join(t testing.TB, k hub.Key) {
	t.Helper()
	h.Add(k)
	if err := h.InForce(t.Context(), []hub.Key{k}); err != nil {
		t.Fatal(err)
	}
}

// InForce waits until keys are in force.
func (h *member) InForce(ctx context.Context, keys []hub.Key) error {
	outcome := make(chan error, 1)
	forget := h.ThenInForce(keys, func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		forget()
		return ctx.Err()
	}
}

// send routes and forwards a call, and waits for its outcomes.
func (h *member) send(ctx context.Context, caller, text string, q Query) (Route, []Outcome) {
	r := h.Route(q)
	return r, h.forward(ctx, caller, text, r.To).Wait(ctx)
}

func (h *member) forward(ctx context.Context, caller, text string, to []Destination) *Gathering {
	send := &peerv1.ForwardSend{Request: []byte(text)}
	forward := &peerv1.Forward{Call: &peerv1.Forward_Send{Send: send}}
	g := h.Forward(&Call{Caller: caller, Began: time.Now(), Forward: forward}, to)
	g.Insist(ctx)
	return g
}

// sees returns the hub's view of a peer.
func (h *member) sees(other *member) PeerInfo {
	for _, p := range h.Peers() {
		if p.Hub == other.id {
			return p
		}
	}
	return PeerInfo{}
}

// epoch returns the epoch of the link to a peer; 0: there is none.
func (h *member) epoch(other *member) uint64 {
	h.Mesh.mu.RLock()
	defer h.Mesh.mu.RUnlock()
	if l := h.out[other.id]; l != nil && l.linked {
		return l.epoch
	}
	return 0
}

func group(name string) (hub.Key, Query) {
	return hub.Key{Kind: hub.RouteGroup, Namespace: "default", Name: name}, Query{
		Hashes: []core.Hash{core.HashOf(core.KindGroup, "default", name)},
	}
}

// callerOf returns a caller whose calls take that lane, of defaultLanes.
func callerOf(lane int) string {
	for n := 0; ; n++ {
		if name := fmt.Sprint("caller-", n); core.LaneOf(name, defaultLanes) == lane {
			return name
		}
	}
}

// fewChecks lowers rapid's number of checks: a bubble takes 100 ms, a pure core much less.
func fewChecks(t *testing.T) {
	t.Helper()
	testkit.SetChecks(t, 12)
}

// inBubble runs a test in a bubble of its own.
func inBubble(t *testing.T, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newBubble(t)) })
}
