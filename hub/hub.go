package hub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a hub needs to know. DefaultConfig fills all of it but ID.
type Config struct {
	ID      ID
	Name    string // for people: the host's or pod's name
	Version string // of the binary

	// MaxConnections bounds the connections held at once. Beyond it Attach is refused. The last sixteenth is kept for users with fewer than 8
	// connections, or no more than the average; half of that for namespaces with no more than the average.
	// Clients without a user are one user at each address, there and in all other fair shares.
	MaxConnections int

	// Outbox bounds what is queued for one connection, in bytes of payload; but an empty one takes any message. Beyond it the
	// message's overflow policy decides.
	Outbox Bounds
	// Window bounds what is written to one connection and not confirmed, where the protocol has acks.
	// Full, it stops writing.
	Window Bounds
	// AckTimeout is how long a window may be full without a single ack before the connection is closed, with or without a link. A client that
	// comes back later has a few seconds.
	AckTimeout time.Duration
	// HeldBytes caps the memory held by undelivered data: queued messages, unacknowledged messages, pending
	// replies. A message shared by several connections counts once. The list of an outbox that has room for
	// more than 8 messages counts with 8 bytes a place. Above the cap connections are closed (CauseMemory) by
	// fair shares: the largest connection of the largest user of the largest namespace. Of two that hold as
	// much, the detached one goes first.
	HeldBytes int64
	// NamespaceHeldBytes is the same for each namespace, whose own connections pay. NamespaceShare is a good value: with it no
	// namespace can fill the hub's budget alone.
	NamespaceHeldBytes int64
	// DetachedPerUser and DetachedPerAddress bound the connections without a link that wait for a client. When there is one more, the one of
	// the user that has waited longest goes; at an address, that one of the largest user of the largest namespace.
	DetachedPerUser, DetachedPerAddress int
	// ResumeWindow is how long a connection without a link waits for its client.
	ResumeWindow time.Duration

	// RequestIDs is how many request ids are remembered at once, at up to RequestIDBytes each. Within 5
	// minutes the oldest of the largest namespace of the largest caller is forgotten early when there are
	// more.
	RequestIDs int

	Overflow          Policy            // of sends that name none
	NamespaceOverflow map[string]Policy // the same for single namespaces

	Sink     Sink                  // sees every change, or those of SinkOps; may be nil
	SinkOps  []OpKind              // empty: all. Who does without those of deliveries spares a tenth of their CPU
	Interest Interest              // makes known whom the hub has; nil: it is the only one
	Metrics  prometheus.Registerer // may be nil
}

// DefaultConfig is a good start: an outbox takes any message, and a thousand small ones.
func DefaultConfig() Config {
	return Config{
		MaxConnections: 1_000_000,
		Outbox:         Bounds{Messages: 1000, Bytes: 4 << 20},
		Window:         Bounds{Messages: 20_000, Bytes: 16 << 20}, // SDKs confirm once a second: 4 s at 5,000 messages a second
		AckTimeout:     30 * time.Second,
		ResumeWindow:   60 * time.Second,

		HeldBytes:          1 << 30,
		NamespaceHeldBytes: NamespaceShare(1 << 30),
		DetachedPerUser:    100,
		DetachedPerAddress: 10_000, // an office behind one address that loses its network

		RequestIDs: 262_144, // 870 a second
		Overflow:   CloseSlow,
	}
}

// minQueueBytes keeps a queue from being full with a single message.
const minQueueBytes = 2 * MaxPayload

// minHeldBytes is room for some of the largest messages, each with its forms.
const minHeldBytes = 8 * MaxPayload

// NamespaceShare returns the default of NamespaceHeldBytes for a value of HeldBytes: half of it, but not less than the least valid value.
func NamespaceShare(heldBytes int64) int64 { return max(heldBytes/2, minHeldBytes) }

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ID != "", "ID is not set")
	check(c.MaxConnections > 0, "MaxConnections is %d, must be above 0", c.MaxConnections)
	check(c.Outbox.Messages > 0, "Outbox.Messages is %d, must be above 0", c.Outbox.Messages)
	check(c.Outbox.Bytes >= minQueueBytes, "Outbox.Bytes is %d, must be at least %d", c.Outbox.Bytes, minQueueBytes)
	check(c.Window.Messages > 0, "Window.Messages is %d, must be above 0", c.Window.Messages)
	check(c.Window.Bytes >= minQueueBytes, "Window.Bytes is %d, must be at least %d", c.Window.Bytes, minQueueBytes)
	check(c.AckTimeout > 0, "AckTimeout is %v, must be above 0", c.AckTimeout)
	check(c.ResumeWindow > 0, "ResumeWindow is %v, must be above 0", c.ResumeWindow)
	check(c.HeldBytes >= minHeldBytes, "HeldBytes is %d, must be at least %d", c.HeldBytes, minHeldBytes)
	check(c.NamespaceHeldBytes >= minHeldBytes, "NamespaceHeldBytes is %d, must be at least %d", c.NamespaceHeldBytes, minHeldBytes)
	check(c.DetachedPerUser > 0, "DetachedPerUser is %d, must be above 0", c.DetachedPerUser)
	check(c.DetachedPerAddress > 0, "DetachedPerAddress is %d, must be above 0", c.DetachedPerAddress)
	check(c.RequestIDs > 0, "RequestIDs is %d, must be above 0", c.RequestIDs)
	check(c.Overflow.asDefault(), "Overflow can't be a default")
	for name, p := range c.NamespaceOverflow {
		check(ValidNamespace(name), "NamespaceOverflow: %q is not a namespace", name)
		check(p.asDefault(), "NamespaceOverflow: policy of %q can't be a default", name)
	}
	return errors.Join(errs...)
}

// asDefault reports whether p works for a send that says nothing: Conflate needs a key from it.
func (p Policy) asDefault() bool { return p == CloseSlow || p == DropOldest || p == DropNewest }

var namespacePattern = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,127}$`)

// ValidNamespace reports whether name is the name of a namespace.
func ValidNamespace(name string) bool { return namespacePattern.MatchString(name) }

// Hub holds connections and delivers to them. All methods may be called concurrently.
type Hub struct {
	// Static after New.
	config  Config
	started time.Time
	metrics *metrics
	sinkOps uint32 // a bit for each OpKind that config.Sink sees
	// interest is called under a connection's lock.
	interest Interest

	holdings holdings
	detached *detached
	messages atomic.Uint64 // ids made so far
	closing  atomic.Uint32 // the Cause for which Shutdown closes connections; 0: it has not begun
	requests *requests

	mu         sync.RWMutex
	namespaces map[string]*namespace
	dialects   map[Protocol]*dialect
	held       int // connections, and attaches under way
	links      int // bound and not yet unbound
	idle       chan struct{}
}

// New returns a hub without connections. It starts no goroutine.
func New(c Config) (*Hub, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("hub config: %w", err)
	}
	h := &Hub{
		config:     c,
		started:    time.Now(),
		requests:   newRequests(c.RequestIDs),
		namespaces: make(map[string]*namespace),
		dialects:   make(map[Protocol]*dialect),
		idle:       make(chan struct{}),
		interest:   c.Interest,
		detached:   newDetached(&c),
	}
	h.holdings.hub = h
	if h.interest == nil {
		h.interest = alone{}
	}
	h.sinkOps = sinkOps(&c)
	h.metrics = newMetrics(c.Metrics, h)
	return h, nil
}

// ID returns the hub's id.
func (h *Hub) ID() ID { return h.config.ID }

// Name returns the hub's name.
func (h *Hub) Name() string { return h.config.Name }

// Version returns the version of the hub's binary.
func (h *Hub) Version() string { return h.config.Version }

// Started returns when the hub began.
func (h *Hub) Started() time.Time { return h.started }

// Len returns how many connections the hub holds.
func (h *Hub) Len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.held
}

// Admission is a client that was let in.
type Admission struct {
	Namespace     string
	User          string   // empty: anonymous
	Groups        []string // joined from the first moment
	Protocol      Protocol
	RemoteAddress string
	Claims        *Claims // nil: none
}

// Attach registers a connection: from its return on, sends find it, from whatever hub they come, and wait in its
// outbox until Bind gives it a link. The caller sees to it that either Bind or Close follows. Errors: ErrShuttingDown,
// ErrTooManyConnections, ErrGroupLimit, and that of ctx, which bounds the wait for other hubs to know it (500 ms
// at most); then nothing is left of it.
func (h *Hub) Attach(ctx context.Context, a Admission) (*Connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	groups := distinct(a.Groups)
	if len(groups) > MaxGroups {
		return nil, ErrGroupLimit
	}
	ns, speaks, err := h.acquire(&a)
	if err != nil {
		return nil, err
	}
	c := &Connection{namespace: ns, dialect: speaks}
	if speaks.numbered != nil {
		c.numbering = &numbering{}
	}
	a.Namespace, a.User = ns.name, strings.Clone(a.User) // the ones it came with may be parts of a URL

	c.mu.Lock() // whoever finds it in a table waits until it is whole
	c.applyLocked(Op{Kind: OpAdmit, Identity: &Identity{
		ID:            newConnectionID(h.config.ID),
		Namespace:     a.Namespace,
		User:          a.User,
		Protocol:      a.Protocol.Name(),
		RemoteAddress: a.RemoteAddress,
		Created:       time.Now(),
		Claims:        a.Claims,
	}})
	ns.connections.put(c)
	if a.User != "" {
		c.userEntry = ns.users.add(a.User, c)
		h.interest.Add(Key{RouteUser, a.Namespace, a.User})
	}
	h.interest.Add(Key{RouteEveryone, a.Namespace, ""})
	for _, g := range groups {
		c.joinLocked(g)
	}
	c.mu.Unlock()
	speaks.connections.Inc()

	// Shutdown closes what it finds in the tables after it has set closing; what came into them later finds
	// closing set.
	if h.Leaving() {
		c.Close(NewClose(Cause(h.closing.Load())))
		return nil, ErrShuttingDown
	}
	if err := h.interest.InForce(ctx, keysOf(&a, groups)); err != nil {
		c.Close(NewClose(CauseHandshake))
		return nil, err
	}
	return c, nil
}

// Resume is a client that may have its connection back.
type Resume struct {
	Connection *Connection

	proven [sha256.Size]byte
}

// Bind gives the connection a new link. See Connection.Bind.
func (r *Resume) Bind(l Link) error { return r.Connection.bind(l, r.proven) }

// Resume finds the connection that a client wants back, by the token of its last greeting, or of the one before if the last never
// reached it. The caller binds a new link; until then nothing changes. Errors: ErrConnectionNotFound, ErrResumeRefused,
// ErrShuttingDown, that of ctx.
func (h *Hub) Resume(ctx context.Context, namespace, id, token string) (*Resume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.Leaving() {
		return nil, ErrShuttingDown
	}
	c, err := h.connection(namespace, id)
	if err != nil {
		return nil, err
	}
	r := &Resume{c, sha256.Sum256([]byte(token))}
	if !c.resumes(r.proven) {
		return nil, ErrResumeRefused
	}
	return r, nil
}

func (h *Hub) connection(namespace, id string) (*Connection, error) {
	if ns := h.namespace(namespace); ns != nil {
		if c, ok := ns.connections.get(id); ok {
			return c, nil
		}
	}
	return nil, ErrConnectionNotFound
}

// distinct returns names without repetitions, in order, and without what they may be parts of.
func distinct(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, strings.Clone(n))
		}
	}
	return out
}

// Leaving reports whether BeginShutdown was called.
func (h *Hub) Leaving() bool { return h.closing.Load() != 0 }

// BeginShutdown has the hub refuse every new client and send with ErrShuttingDown from now on. Shutdown will close the
// connections for the cause; only the first call counts. It does not wait.
func (h *Hub) BeginShutdown(cause Cause) { h.closing.CompareAndSwap(0, uint32(cause)) }

func (h *Hub) linkBound() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links++
}

func (h *Hub) linkUnbound() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links--
	h.signalIdleLocked()
}

// signalIdleLocked tells Shutdown when the last link is gone. h.idle is closed once.
func (h *Hub) signalIdleLocked() {
	if h.Leaving() && h.links == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// Shutdown takes nothing new, closes every connection, for CauseShutdown unless BeginShutdown named another cause, and waits
// until their links are gone or ctx is done. Then it returns the error of ctx.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.BeginShutdown(CauseShutdown)
	idle := h.idle
	h.signalIdleLocked()
	all := slices.Collect(maps.Values(h.namespaces))
	h.mu.Unlock()

	for _, ns := range all {
		if err := ns.closeAll(ctx); err != nil {
			return err
		}
	}
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeAll closes the connections of a namespace with a few workers: each writes a close frame.
func (ns *namespace) closeAll(ctx context.Context) error {
	var open []*Connection
	ns.connections.all(func(c *Connection) { open = append(open, c) })
	inChunks(open, func(some []*Connection) {
		for _, c := range some {
			if ctx.Err() != nil {
				return
			}
			c.Close(NewClose(Cause(ns.hub.closing.Load())))
		}
	})
	return ctx.Err()
}
