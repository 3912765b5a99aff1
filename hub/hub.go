package hub

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/internal/fairshare"
)

// Hub holds connections and delivers to them. All methods may be called concurrently.
type Hub struct {
	// Static after New.
	config    Config
	started   time.Time
	metrics   *metrics
	observers observers
	// interest is called under a connection's lock.
	interest countedInterest

	holdings holdings
	detached *detached
	// messages counts the ids made so far.
	messages atomic.Uint64
	// closing is the Cause for which Shutdown closes connections; 0: it has not begun.
	closing  atomic.Uint32
	requests *fairshare.Requests[*tally]
	moves    *Moves

	mu         sync.RWMutex
	namespaces map[string]*namespace
	dialects   map[Protocol]*dialect
	// held counts connections, and attaches under way. links counts links that are bound and not
	// yet unbound.
	held, links int
	idle        chan struct{}
}

// New returns a hub without connections. It starts no goroutine.
func New(c Config) (*Hub, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("hub config: %w", err)
	}
	h := &Hub{
		config:     c,
		started:    time.Now(),
		requests:   fairshare.NewRequests[*tally](c.RequestIDs),
		namespaces: make(map[string]*namespace),
		dialects:   make(map[Protocol]*dialect),
		idle:       make(chan struct{}),
		moves:      newMoves(),
		detached:   newDetached(&c),
		observers:  newObservers(c.Observers),
	}
	h.holdings.hub, h.moves.hub = h, h
	if h.interest.Interest = c.Interest; c.Interest == nil {
		h.interest.Interest = soloInterest{}
	}
	var err error
	if h.metrics, err = newMetrics(c.Metrics, h); err != nil {
		return nil, fmt.Errorf("hub metrics: %w", err)
	}
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

// Moves returns the hub's part in moves of connections between hubs.
func (h *Hub) Moves() *Moves { return h.moves }

// Len returns how many connections the hub holds.
func (h *Hub) Len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.held
}

// findAnywhere returns a connection of any namespace, or nil. Only moves need it: it looks into
// each namespace.
func (h *Hub) findAnywhere(id ConnectionID) *Connection {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, ns := range h.namespaces {
		if c, ok := ns.connections.getValue(string(id)); ok {
			return c
		}
	}
	return nil
}

func (h *Hub) findConnection(namespace, id string) (*Connection, error) {
	if ns := h.findNamespace(namespace); ns != nil {
		if c, ok := ns.connections.getValue(id); ok {
			return c, nil
		}
	}
	return nil, ErrConnectionNotFound
}
