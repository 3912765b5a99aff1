package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/connhub/connhub/internal/config"
)

// Registry registers a hub in etcd and shows all hubs of the cluster. It is safe for concurrent
// use.
type Registry struct {
	// Fixed at New.
	config    Config
	keys      keys
	log       *slog.Logger
	metrics   *metrics
	dialer    *dialer
	board     *board
	freshness *freshness
	dead      chan struct{} // closed by markDead

	// The goroutines: the follower, and the registration's.
	ctx        context.Context // done when Close is called
	cancel     context.CancelFunc
	goroutines sync.WaitGroup

	mu           sync.Mutex
	closed       bool
	isDead       bool                // dead is closed
	cluster      string              // the cluster's id, set once; empty: not read yet
	registration *registration       // from the start of Register to Deregister; nil: none
	struck       map[string]struct{} // ids whose marks the registration deletes; nil: none
}

// New returns a Registry and starts to follow etcd. It does not need etcd to be reachable. The
// caller must call Close.
func New(c Config) (*Registry, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("discovery config: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{
		config:    c,
		keys:      newKeys(c.Prefix),
		log:       c.Logger,
		dialer:    newDialer(ctx, &c),
		board:     newBoard(),
		freshness: newFreshness(),
		dead:      make(chan struct{}),
		ctx:       ctx,
		cancel:    cancel,
	}
	var err error
	if r.metrics, err = newMetrics(c.Metrics, r); err != nil {
		cancel()
		return nil, fmt.Errorf("discovery metrics: %w", err)
	}
	r.goroutines.Go(newFollower(r).run)
	return r, nil
}

// Register lists the hub in etcd. It retries until it succeeds or ctx is done, and then keeps the
// hub listed until Deregister or Close: if etcd loses the key, the hub is registered again with the
// same id. These errors end the attempts before ctx is done: ErrIDTaken, ErrDeclaredDead,
// ErrForeignCluster, ErrRefused, ErrAlreadyRegistered, ErrClosed, and the problems of m. If ctx
// ends the attempts, the hub may still get listed for up to LeaseTTL.
func (r *Registry) Register(ctx context.Context, m Member) error {
	value, err := encodeMember(m)
	if err != nil {
		return fmt.Errorf("register hub: %w", err)
	}
	g := newRegistration(r, m.ID, value)
	if err := r.reserveRegistration(g); err != nil {
		return fmt.Errorf("register hub: %w", err)
	}
	err = g.registerFirst(ctx)
	if err == nil && !r.startGoroutine(g.run) {
		err = ErrClosed
	}
	if err != nil {
		r.freeRegistration(g)
		g.endUnstarted()
		return fmt.Errorf("register hub: %w", err)
	}
	r.log.Info("hub registered", "id", m.ID, "cluster", r.ClusterID())
	return nil
}

// reserveRegistration makes g the registration of the Registry, if there is none.
func (r *Registry) reserveRegistration(g *registration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrClosed
	case r.isDead:
		return ErrDeclaredDead
	case r.registration != nil:
		return ErrAlreadyRegistered
	}
	r.registration = g
	return nil
}

// freeRegistration allows a new registration, if g is the current registration.
func (r *Registry) freeRegistration(g *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registration == g {
		r.registration = nil
	}
}

// startGoroutine runs f in a goroutine that Close waits for. It returns false if the Registry is
// closed.
func (r *Registry) startGoroutine(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.goroutines.Go(f)
	return true
}

// ownRegistration returns the current registration, or nil.
func (r *Registry) ownRegistration() *registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registration
}

// Deregister takes the hub off the list at once. Without Deregister that takes up to LeaseTTL,
// until the lease ends. It does nothing if no hub is registered. After an error, the hub is no
// longer kept listed and goes when its lease ends.
func (r *Registry) Deregister(ctx context.Context) error {
	g := r.ownRegistration()
	if g == nil {
		return nil
	}
	g.cancel()
	select {
	case <-g.done:
	case <-ctx.Done():
		return fmt.Errorf("deregister hub: %w", ctx.Err())
	}
	r.freeRegistration(g)
	if err := g.endLeases(ctx); err != nil {
		return fmt.Errorf("deregister hub: %w", err)
	}
	r.log.Info("hub deregistered", "id", g.id)
	return nil
}

// Dead returns a channel that is closed when a peer declared the registered hub dead. The hub is
// not registered again. It must end, because backends were told that its connections are lost; a
// new process with a new id may start.
func (r *Registry) Dead() <-chan struct{} { return r.dead }

func (r *Registry) markDead() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isDead {
		r.isDead = true
		close(r.dead)
	}
}

// StaleFor returns the time since the last answer of etcd, or 0 while etcd answers. In this time
// hubs may have come and gone unseen.
func (r *Registry) StaleFor() time.Duration { return r.freshness.staleFor() }

// Close ends all watchers and goroutines, and waits for them. It does not deregister the hub, which
// stays listed until its lease ends. A second call returns ErrClosed.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.goroutines.Wait()
	r.board.close()
	r.dialer.close()
	return nil
}
