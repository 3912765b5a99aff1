package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/discovery"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
)

// defaultLanes is the number of streams that carry calls to each peer. The calls of a caller share
// a lane, so that a large message delays few callers.
const defaultLanes = 4

// farewellTime bounds the wait for peers to take a farewell, so that a stuck peer does not hold up
// a shutdown.
const farewellTime = time.Second

// The most bytes of an id, and of every other text of a Hello (peer.proto).
const (
	maxID   = 64
	maxText = 1024
)

// The causes for which the shell ends a link, for logs and metrics. The core has its own.
var (
	errClosing  = errors.New("this hub leaves")
	errBacklog  = errors.New("peer does not read")
	errLaneLost = errors.New("a lane can't be opened, or broke")
	errHungUp   = errors.New("peer ended the link")
)

// Config configures a Mesh. DefaultConfig sets the fields that have a default.
type Config struct {
	// Self is the id of this hub, 1 to 64 bytes. It must be new at each start.
	Self hub.ID
	// Name, Zone and Version describe this hub to its peers, up to 1024 bytes each.
	Name, Zone, Version string
	Address             string // where peers dial this hub, host:port, up to 1024 bytes
	// Registry registers this hub and finds its peers. The Mesh does not close it.
	Registry *discovery.Registry

	TLS    *tls.Config // for dials; nil: plain text
	Secret string      // bearer secret with the role peer; empty: none is sent

	// Forgotten is called, once, when peers may have forgotten this hub. By its return the hub must
	// refuse every send. The call comes under the mesh's lock: Forgotten must neither wait nor call
	// the Mesh. May be nil.
	Forgotten func()

	Lanes    int // streams for calls to each peer, 1 to 64
	HashBits int // of interest, 1 to 64, the same at every hub; below 64 only for tests

	// Logger receives the mesh's log. Nil: nothing is logged.
	Logger  *slog.Logger
	Metrics prometheus.Registerer // may be nil

	dial func(ctx context.Context, address string) (net.Conn, error) // for tests; nil: TCP
}

// DefaultConfig returns a Config with the defaults.
func DefaultConfig() Config { return Config{Lanes: defaultLanes, HashBits: core.HashBits} }

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	// The bounds are those of a Hello (peer.proto): peers would refuse a longer text.
	p.Require(c.Self != "" && len(c.Self) <= maxID,
		"Self", "is %q, must be 1 to %d bytes", c.Self, maxID)
	p.Require(c.Address != "" && len(c.Address) <= maxText,
		"Address", "is %q, must be 1 to %d bytes", c.Address, maxText)
	for _, t := range []struct{ field, value string }{
		{"Name", c.Name}, {"Zone", c.Zone}, {"Version", c.Version},
	} {
		p.Require(len(t.value) <= maxText,
			t.field, "is %q, must be at most %d bytes", t.value, maxText)
	}
	p.Require(c.Registry != nil, "Registry", "is not set")
	p.Require(c.Lanes >= 1 && c.Lanes <= maxLanes,
		"Lanes", "is %d, must be 1 to %d", c.Lanes, maxLanes)
	p.Require(c.HashBits >= 1 && c.HashBits <= core.HashBits,
		"HashBits", "is %d, must be 1 to %d", c.HashBits, core.HashBits)
	return p
}

// Mesh connects this hub to its peers: it is the shell that carries out the decisions of the core.
// It is safe for concurrent use.
type Mesh struct {
	// Moves are the moves of this hub's connections. Static after New.
	Moves *Moves

	// Static after New.
	config  Config
	logger  *slog.Logger
	metrics *metrics
	started time.Time // the zero of the core's time

	opened    chan struct{} // closed when the cluster's id is known
	ready     chan struct{} // closed by the core
	changed   chan struct{} // wakes the ticker: the core may have earlier work to do
	refusals  refusalLog
	forgotten chan struct{}   // closed by the core: peers may have forgotten this hub
	lastCall  atomic.Int64    // the core's time of the latest call
	closing   context.Context // done when Close has begun
	close     context.CancelFunc
	finished  chan struct{}  // closed when Run has returned
	tasks     sync.WaitGroup // links in both directions; none starts when sealed

	mu      sync.RWMutex
	core    *core.Core
	verdict error // does not change after forgotten is closed
	running bool
	sealed  bool // no link may start
	// joins are called at the effect inForce with their number, or when there can be none any more.
	joins   map[uint64]func(error)
	lastID  uint64              // of joins
	out     map[hub.ID]*outLink // the latest dial of each peer, until it has ended
	in      map[linkKey]*inLink // links that peers dialled, until their loops have ended
	failing map[hub.ID]bool     // the latest dial failed, and the log says so
}

// linkKey identifies a link that a peer dialled.
type linkKey struct {
	hub   hub.ID
	epoch uint64
}

var _ hub.Interest = (*Mesh)(nil)

// New returns a Mesh without peers. It starts no goroutine.
func New(c Config) (*Mesh, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("mesh config: %w", err)
	}
	m := &Mesh{
		config:    c,
		logger:    config.Logger(c.Logger),
		started:   time.Now(),
		opened:    make(chan struct{}),
		ready:     make(chan struct{}),
		changed:   make(chan struct{}, 1),
		forgotten: make(chan struct{}),
		finished:  make(chan struct{}),
		joins:     make(map[uint64]func(error)),
		out:       make(map[hub.ID]*outLink),
		in:        make(map[linkKey]*inLink),
		failing:   make(map[hub.ID]bool),
	}
	m.closing, m.close = context.WithCancel(context.Background())
	m.core = core.New(core.Config{
		Us: &peerv1.Hello{
			Self:        &peerv1.Identity{Hub: string(c.Self)},
			ProtocolMin: core.ProtocolMin, ProtocolMax: core.ProtocolMax,
			Name: c.Name, Zone: c.Zone, Version: c.Version, Address: c.Address,
			Lanes: uint32(c.Lanes), // checked: at most 64
		},
		HashBits: c.HashBits,
	})
	m.Moves = newMoves(m)
	var err error
	if m.metrics, err = newMetrics(c.Metrics, m); err != nil {
		return nil, fmt.Errorf("mesh metrics: %w", err)
	}
	return m, nil
}

// Run registers this hub, for which it waits for etcd without limit. Then it takes part in the
// cluster until Close, the end of ctx, or a final error: an error of discovery.Registry.Register,
// discovery.ErrDeclaredDead, discovery.ErrClosed, or ErrForgotten. The hub must serve PeerService
// before. Run is called once. After an error Close must still be called.
func (m *Mesh) Run(ctx context.Context) error {
	if !m.startRunning() {
		return nil
	}
	defer close(m.finished)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.closing, cancel)()

	err := m.config.Registry.Register(ctx, discovery.Member{
		ID: string(m.config.Self), Name: m.config.Name, Zone: m.config.Zone,
		Version:        m.config.Version,
		ControlAddress: m.config.Address, Started: time.Now(),
	})
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // Close, or the caller, ended the wait
	case err != nil:
		return err
	}
	m.openCluster(m.config.Registry.ClusterID())
	watcher := m.config.Registry.Watch()
	defer watcher.Close()
	return m.followCluster(ctx, watcher.Snapshots(), m.config.Registry.Dead())
}

// startRunning reports whether Run may continue. It must not register a hub that Close has taken
// off the list.
func (m *Mesh) startRunning() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running = m.closing.Err() == nil; m.running {
		m.tasks.Go(func() { m.Moves.runMoves(m.closing) })
	}
	return m.running
}

// openCluster admits links from now on, with the id of the cluster.
func (m *Mesh) openCluster(cluster string) {
	m.mu.Lock()
	m.core.SetCluster(cluster)
	m.mu.Unlock()
	close(m.opened)
	m.logger.Info("joining the cluster", slog.String("cluster", cluster),
		slog.String("address", m.config.Address))
}

// followCluster informs the core of etcd's changes and of time.
func (m *Mesh) followCluster(
	ctx context.Context, snapshots <-chan discovery.Snapshot, dead <-chan struct{},
) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lapsed []core.Listed
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-dead:
			return discovery.ErrDeclaredDead
		case <-m.forgotten:
			return m.verdict
		case snapshot, ok := <-snapshots:
			if !ok {
				return discovery.ErrClosed
			}
			lapsed = keysIn(snapshot.Lapsed)
			m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
				c.RaiseSilence(snapshot.StaleFor)
				return c.HandleKeys(now, keysIn(snapshot.Members), lapsed)
			})
		case <-timer.C:
			m.callCore((*core.Core).HandleTick)
		case <-m.changed:
		}
		m.strikeOff(lapsed)
		timer.Reset(m.untilNext())
	}
}

// strikeOff removes the marks of lapsed hubs that turned out to be gone, so that new hubs don't
// look for them.
func (m *Mesh) strikeOff(lapsed []core.Listed) {
	for _, l := range lapsed {
		m.mu.RLock()
		counts := m.core.CountsMember(m.coreTime(), l.Hub)
		m.mu.RUnlock()
		if !counts {
			m.config.Registry.StrikeOff(string(l.Hub))
		}
	}
}

func keysIn(members map[string]discovery.Member) []core.Listed {
	keys := make([]core.Listed, 0, len(members))
	for _, member := range members {
		keys = append(keys, core.Listed{Hub: hub.ID(member.ID), Address: member.ControlAddress})
	}
	return keys
}

// longestNap is the most time that the ticker sleeps.
const longestNap = time.Minute

func (m *Mesh) untilNext() time.Duration {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return min(m.core.NextDeadline()-m.coreTime(), longestNap)
}

// coreTime returns the core's time: monotonic, since the start.
func (m *Mesh) coreTime() time.Duration { return time.Since(m.started) }

// wakeTicker makes the ticker look again for when it is due.
func (m *Mesh) wakeTicker() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// callCore makes a call of the core and carries out its effects. Neither call nor the effects
// may wait or call callCore.
func (m *Mesh) callCore(call func(c *core.Core, now time.Duration) []core.Effect) {
	m.mu.Lock()
	before, now := m.core.NextDeadline(), m.coreTime()
	m.core.NoteSilence(m.config.Registry.StaleFor())
	effects := m.core.CheckStandstill(now)
	effects = append(effects, call(m.core, now)...)
	m.lastCall.Store(int64(now))
	for _, e := range effects {
		m.carryOutLocked(e)
	}
	sooner := m.core.NextDeadline() < before
	m.mu.Unlock()
	if sooner {
		m.wakeTicker()
	}
	for _, e := range effects { // without the lock: a log may block
		m.logEffect(e)
		if gone, ok := e.(core.Gone); ok {
			m.Moves.shell.HandleDeath(gone.Hub)
		}
	}
}

// checkStandstill lets the core find out whether peers forgot this hub while its process stood
// still. It must precede every action that begins without a call of the core.
func (m *Mesh) checkStandstill() {
	if m.coreTime()-time.Duration(m.lastCall.Load()) >= core.Standstill {
		m.callCore((*core.Core).HandleTick)
	}
}

// Forgotten reports whether peers may have forgotten this hub; see ErrForgotten. It is cheap.
func (m *Mesh) Forgotten() bool {
	m.checkStandstill()
	select {
	case <-m.forgotten:
		return true
	default:
		return false
	}
}

// hubsLogged is the most hubs that a log line names.
const hubsLogged = 16

// logEffect logs the effects that matter to operators.
func (m *Mesh) logEffect(e core.Effect) {
	switch e := e.(type) {
	case core.Suspected:
		m.logger.Warn("peer is silent", slog.String("hub", string(e.Hub)))
	case core.Gone:
		m.logger.Info("hub is gone", slog.String("hub", string(e.Hub)))
	case core.Ready:
		if len(e.Without) > 0 {
			m.logger.Warn("ready, but hubs have no link with this one; "+
				"can they dial its address, and it theirs?",
				slog.String("address", m.config.Address),
				slog.Any("hubs", e.Without[:min(len(e.Without), hubsLogged)]),
				slog.Int("count", len(e.Without)))
		}
	case core.Forgotten:
		m.logger.Warn("this hub may have been forgotten; its clients are closed",
			slog.Any("cause", e.Cause))
	}
}

// carryOutLocked carries out an effect. The caller must hold m.mu.
func (m *Mesh) carryOutLocked(e core.Effect) {
	switch e := e.(type) {
	case core.Dial:
		m.dialLocked(e)
	case core.HangUp:
		m.withOutLinkLocked(e.Hub, e.Epoch, func(l *outLink) { l.end(e.Cause) })
	case core.Suspected:
		m.withOutLinkLocked(e.Hub, e.Epoch, (*outLink).stopWaiting)
	case core.Request:
		m.withOutLinkLocked(e.Hub, e.Epoch, func(l *outLink) { l.queueRequest(e.Message) })
	case core.Accept:
		m.withInLinkLocked(e.Hub, e.Hello.GetEpoch(), func(l *inLink) { l.answer <- e.Hello })
	case core.Refuse:
		m.withInLinkLocked(e.Hub, e.Epoch, func(l *inLink) { l.end(refusedError{e.Reason}) })
	case core.Fence:
		m.withInLinkLocked(e.Hub, e.Epoch, func(l *inLink) { l.end(e.Cause) })
	case core.Response:
		m.withInLinkLocked(e.Hub, e.Epoch, func(l *inLink) { l.queueResponse(e.Message) })
	case core.InForce:
		if done := m.joins[e.Call]; done != nil {
			delete(m.joins, e.Call)
			done(nil)
		}
	case core.Gone:
		delete(m.failing, e.Hub)
	case core.Ready:
		close(m.ready)
	case core.Forgotten:
		if m.config.Forgotten != nil {
			m.config.Forgotten()
		}
		m.verdict = e.Cause
		close(m.forgotten)
		m.endJoinsLocked()
	}
}

// withOutLinkLocked calls do with the link that this hub dials, if it is still there.
func (m *Mesh) withOutLinkLocked(peer hub.ID, epoch uint64, do func(l *outLink)) {
	if l := m.out[peer]; l != nil && l.epoch == epoch {
		do(l)
	}
}

// withInLinkLocked calls do with the link that a peer dialled, if it is still there.
func (m *Mesh) withInLinkLocked(peer hub.ID, epoch uint64, do func(l *inLink)) {
	if l := m.in[linkKey{peer, epoch}]; l != nil {
		do(l)
	}
}

// Ready returns a channel that is closed when every listed hub knows this hub, or 15 s after the
// first list. From then on clients and backends may come.
func (m *Mesh) Ready() <-chan struct{} { return m.ready }

// Cluster returns the id of the cluster; empty until etcd has given it.
func (m *Mesh) Cluster() string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.core.Cluster()
}

// Zone returns the configured zone of this hub.
func (m *Mesh) Zone() string { return m.config.Zone }

// Address returns the address at which peers dial this hub.
func (m *Mesh) Address() string { return m.config.Address }

// Registered reports whether this hub's key is in etcd, as far as the hub knows.
func (m *Mesh) Registered() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.core.IsRegistered()
}

// StaleFor returns for how long etcd has been silent, so that hubs may have come unseen. It is 0
// while etcd answers, and for a nil Mesh.
func (m *Mesh) StaleFor() time.Duration {
	if m == nil {
		return 0
	}
	return m.config.Registry.StaleFor()
}

// Add implements hub.Interest.
func (m *Mesh) Add(k hub.Key) {
	h := core.HashOfKey(k)
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		return c.AddReference(now, h)
	})
}

// Remove implements hub.Interest.
func (m *Mesh) Remove(k hub.Key) {
	h, had := core.HashOfKey(k), false
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		had = c.RemoveReference(now, h)
		return nil
	})
	if !had {
		m.logger.Error("interest was removed that was not added", slog.Int("kind", int(k.Kind)))
	}
}

// ThenInForce implements hub.Interest.
func (m *Mesh) ThenInForce(keys []hub.Key, done func(error)) (forget func()) {
	hashes := make([]core.Hash, len(keys))
	for i, k := range keys {
		hashes[i] = core.HashOfKey(k)
	}
	began := time.Now()
	var id uint64
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		m.lastID++
		id = m.lastID
		m.joins[id] = func(err error) {
			m.metrics.observeJoin(time.Since(began))
			done(err)
		}
		return c.AwaitInForce(now, id, hashes)
	})
	// An earlier call may have ended the waiting joins before this join was added.
	if m.closing.Err() != nil || m.Forgotten() {
		m.endJoins()
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.joins[id] != nil {
			delete(m.joins, id)
			m.metrics.observeJoin(time.Since(began))
		}
	}
}

// endJoins ends all waiting joins with hub.ErrShuttingDown: there will be no effect inForce for
// them.
func (m *Mesh) endJoins() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endJoinsLocked()
}

func (m *Mesh) endJoinsLocked() {
	for id, done := range m.joins {
		delete(m.joins, id)
		done(hub.ErrShuttingDown)
	}
}

// RouteFor finds the hubs for a call to t that has begun. A nil Mesh has no peers.
func (m *Mesh) RouteFor(namespace string, t *hub.Target) Route {
	return m.RouteInto(nil, namespace, t)
}

// RouteInto is RouteFor with memory for Route.To, which is an empty slice with some room.
func (m *Mesh) RouteInto(memory []Destination, namespace string, t *hub.Target) Route {
	if m == nil {
		return Route{}
	}
	var hashes [fewNames]core.Hash // memory
	return m.routeInto(memory, core.QueryOf(hashes[:0], namespace, t))
}

// fewNames is the most names in a target whose hashes need no allocation.
const fewNames = 8

// Route finds the hubs for a call that has begun.
func (m *Mesh) Route(q Query) Route { return m.routeInto(nil, q) }

func (m *Mesh) routeInto(memory []Destination, q Query) Route {
	m.checkStandstill()
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.core.FindRoute(memory, m.coreTime(), q)
}

// Peers describes every peer, sorted by id.
func (m *Mesh) Peers() []PeerInfo {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.core.PeerInfos(m.coreTime())
}

// InterestSize returns the number of users, groups and namespaces that this hub has told its peers
// of.
func (m *Mesh) InterestSize() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.core.InterestSize()
}

// GoAway tells the peers that this hub begins to leave.
func (m *Mesh) GoAway() {
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect { return c.GoAway(now, false) })
}

// Close says farewell, ends all links, takes the hub off the list in etcd and waits for every
// goroutine. By then the hub must hold no connection. Close cuts the links when ctx ends, or
// after farewellTime. Its error is that of the deregistration.
func (m *Mesh) Close(ctx context.Context) error {
	m.close()
	m.endJoins() // HandleTick is not called any more
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if running {
		<-m.finished // after that no dial starts
	}
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect { return c.GoAway(now, true) })
	m.finishLinks(ctx)
	if !running {
		return nil
	}
	err := m.config.Registry.Deregister(ctx)
	if err != nil && !errors.Is(err, discovery.ErrClosed) {
		return fmt.Errorf("deregister: %w", err)
	}
	return nil
}

// finishLinks ends every link after its queued messages, and cuts the links after farewellTime.
func (m *Mesh) finishLinks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	m.mu.Lock()
	m.sealed = true // the core dials no hub after a farewell
	outs, ins := make([]*outLink, 0, len(m.out)), make([]*inLink, 0, len(m.in))
	for _, l := range m.out {
		outs = append(outs, l)
		l.finishRequests()
	}
	for _, l := range m.in {
		ins = append(ins, l)
		l.finishResponses()
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { m.tasks.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	for _, l := range outs {
		l.end(errClosing)
	}
	for _, l := range ins {
		l.end(errClosing)
	}
	<-done
}
