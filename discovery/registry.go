package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Registry is a hub's place in etcd: it registers the hub and shows the others. All its methods may be called
// concurrently.
type Registry struct {
	// Static after construction.
	config  Config
	keys    keys
	log     *slog.Logger
	metrics *metrics
	dialer  *dialer
	board   *board
	hearing *hearing
	dead    chan struct{}

	// The goroutines: the follower from New on, and a registration's.
	ctx        context.Context // done when Close is called
	cancel     context.CancelFunc
	goroutines sync.WaitGroup

	mu           sync.Mutex
	closed       bool
	isDead       bool
	cluster      string              // set once
	registration *registration       // from Register's begin to Deregister
	struck       map[string]struct{} // ids for the registration to strike off
}

// New returns a Registry that begins to follow etcd, which may be away. Close it.
func New(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("discovery config: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{
		config:  c,
		keys:    newKeys(c.Prefix),
		log:     c.Logger,
		dialer:  newDialer(ctx, &c),
		board:   newBoard(),
		hearing: newHearing(),
		dead:    make(chan struct{}),
		ctx:     ctx,
		cancel:  cancel,
	}
	r.metrics = newMetrics(c.Metrics, r)
	r.goroutines.Go(newFollower(r).run)
	return r, nil
}

// Register lists the hub in etcd, tries until it is or ctx is done, and keeps it listed until Deregister or
// Close: when etcd lost it, it is registered again, with the same id. The errors that end the trying before ctx
// does: ErrIDTaken, ErrDeclaredDead, ErrForeignCluster, ErrRefused, ErrAlreadyRegistered, ErrClosed, and what is
// wrong with m. When ctx ends it, the hub may be listed for LeaseTTL all the same.
func (r *Registry) Register(ctx context.Context, m Member) error {
	value, err := encodeMember(m)
	if err != nil {
		return fmt.Errorf("register hub: %w", err)
	}
	g := newRegistration(r, m.ID, value)
	if err := r.begin(g); err != nil {
		return fmt.Errorf("register hub: %w", err)
	}
	err = g.first(ctx)
	if err == nil && !r.spawn(g.run) {
		err = ErrClosed
	}
	if err != nil {
		r.end(g)
		g.abandon()
		return fmt.Errorf("register hub: %w", err)
	}
	r.log.Info("hub registered", "id", m.ID, "cluster", r.ClusterID())
	return nil
}

// begin reserves the one place.
func (r *Registry) begin(g *registration) error {
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

// end frees the place, if it is still g's.
func (r *Registry) end(g *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registration == g {
		r.registration = nil
	}
}

// spawn runs f in a goroutine that Close waits for; false: the Registry is closed.
func (r *Registry) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.goroutines.Go(f)
	return true
}

// self returns the registration, or nil.
func (r *Registry) self() *registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registration
}

// Deregister takes the hub off the list at once, where the other way out, a lease that ends, takes LeaseTTL. It does
// nothing when no hub is registered. After an error the hub is no longer kept listed, and gone with its lease.
func (r *Registry) Deregister(ctx context.Context) error {
	g := r.self()
	if g == nil {
		return nil
	}
	g.cancel()
	select {
	case <-g.done:
	case <-ctx.Done():
		return fmt.Errorf("deregister hub: %w", ctx.Err())
	}
	r.end(g)
	if err := g.release(ctx); err != nil {
		return fmt.Errorf("deregister hub: %w", err)
	}
	r.log.Info("hub deregistered", "id", g.id)
	return nil
}

// Dead is closed when the registered hub was found to be declared dead: others have told its clients' backends
// so. It is not registered again; it must end, and start anew with a new id.
func (r *Registry) Dead() <-chan struct{} { return r.dead }

func (r *Registry) die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isDead {
		r.isDead = true
		close(r.dead)
	}
}

// StaleFor is for how long etcd has not been heard, so for how long hubs may have come and gone unseen. 0 while it
// is heard.
func (r *Registry) StaleFor() time.Duration { return r.hearing.staleFor() }

// Close ends all watchers and the goroutines, and waits for them. It does not deregister: without Deregister the
// hub stays listed until its lease ends.
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
