package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// minBytes keeps the largest message from having no room in an empty queue.
const minBytes = 2 * hub.MaxPayload

// Config is what a Broker needs. DefaultConfig fills all of it but Hub.
type Config struct {
	Hub            hub.ID                // whose events they are
	Limits         Limits                // of each subscriber
	MaxSubscribers int                   // at once; each costs every event something
	Metrics        prometheus.Registerer // may be nil
	// Account finds what the caller of a stream may hold in memory. The events that wait for a
	// subscriber count there as they come. nil: Limits alone bound them.
	Account AccountOf
}

// DefaultConfig has the limits that the API names.
func DefaultConfig() Config {
	return Config{
		// Some seconds of a busy hub; and all the connections that one is likely to lose at once.
		Limits:         Limits{Messages: 10_000, Bytes: 16 << 20, Standing: 100_000},
		MaxSubscribers: 64,
	}
}

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Hub != "", "Hub is not set")
	check(c.Limits.Messages > 0, "Limits.Messages is %d, must be above 0", c.Limits.Messages)
	check(c.Limits.Bytes >= minBytes, "Limits.Bytes is %d, must be at least %d", c.Limits.Bytes, minBytes)
	check(c.Limits.Standing > 0, "Limits.Standing is %d, must be above 0", c.Limits.Standing)
	check(c.MaxSubscribers > 0, "MaxSubscribers is %d, must be above 0", c.MaxSubscribers)
	return errors.Join(errs...)
}

// Broker brings the events of a hub to those who subscribe. Its methods may be called concurrently.
type Broker struct {
	eventsv1.UnimplementedEventServiceServer

	// Static after New.
	config  Config
	metrics *metrics

	// subscribers is replaced, under mu, and never changed: Applied reads it for every event of the hub.
	subscribers atomic.Pointer[[]*subscriber]

	mu      sync.Mutex
	leaving bool          // GoAway was called
	ending  bool          // Shutdown was called
	gone    chan struct{} // closed when ending, and nobody is left
}

var _ eventsv1.EventServiceServer = (*Broker)(nil)

// New returns a Broker without subscribers. It starts no goroutine.
func New(c Config) (*Broker, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("events config: %w", err)
	}
	b := &Broker{config: c, gone: make(chan struct{})}
	b.subscribers.Store(&[]*subscriber{})
	var err error
	if b.metrics, err = newMetrics(c.Metrics, b); err != nil {
		return nil, fmt.Errorf("events metrics: %w", err)
	}
	return b, nil
}

// Register registers the service of the API.
func (b *Broker) Register(r grpc.ServiceRegistrar) { eventsv1.RegisterEventServiceServer(r, b) }

// Applied is that of a hub.Observer. It queues events for the streams that subscribed to them, and
// never waits.
func (b *Broker) Applied(c *hub.Connection, op hub.Op) {
	if op.Ordinal != 0 {
		b.publish(c, op)
	}
}

// Emitted is that of a hub.Observer. It reports whether the event is queued for a stream.
func (b *Broker) Emitted(c *hub.Connection, op hub.Op) bool { return b.publish(c, op) }

func (b *Broker) publish(c *hub.Connection, op hub.Op) (queued bool) {
	subscribers := *b.subscribers.Load()
	if len(subscribers) == 0 {
		return false
	}
	who := c.Identity()
	var e *event
	for _, s := range subscribers {
		if !s.filter.selects(&who, kindOf(op.Kind), op.Event) {
			continue
		}
		if e == nil {
			e = newEvent(&who, &op)
		}
		has, dropped := s.put(e)
		if dropped {
			b.metrics.dropped.Inc()
		}
		queued = queued || has
	}
	return queued
}

// accountOf returns the account of the caller of a stream; nil: it has no bound.
func (b *Broker) accountOf(ctx context.Context) Account {
	if b.config.Account == nil {
		return nil
	}
	return b.config.Account(ctx)
}

// add takes a subscriber. Errors: hub.ErrShuttingDown, ErrTooManySubscribers.
func (b *Broker) add(s *subscriber) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := *b.subscribers.Load()
	switch {
	case b.ending:
		return hub.ErrShuttingDown
	case len(now) >= b.config.MaxSubscribers:
		return ErrTooManySubscribers
	case b.leaving:
		s.goAway()
	}
	next := append(slices.Clone(now), s)
	b.subscribers.Store(&next)
	return nil
}

func (b *Broker) remove(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*b.subscribers.Load()), func(o *subscriber) bool { return o == s })
	b.subscribers.Store(&next)
	b.signalGoneLocked()
}

// signalGoneLocked tells Shutdown when the last subscriber has gone. b.gone is closed once.
func (b *Broker) signalGoneLocked() {
	if b.ending && len(*b.subscribers.Load()) == 0 && b.gone != nil {
		close(b.gone)
		b.gone = nil
	}
}

// GoAway tells all subscribers that the hub leaves. They still get what happens.
func (b *Broker) GoAway() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving = true
	for _, s := range *b.subscribers.Load() {
		s.goAway()
	}
}

// Shutdown ends all streams (hub.ErrShuttingDown), after what waits for them was given. When ctx is done it ends them without,
// and returns the error of ctx. It takes no subscribers any more.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.GoAway()
	b.mu.Lock()
	b.ending = true
	gone := b.gone
	b.signalGoneLocked()
	left := *b.subscribers.Load()
	b.mu.Unlock()
	if gone == nil {
		return nil
	}
	for _, s := range left {
		s.finish()
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		for _, s := range left {
			s.end(hub.ErrShuttingDown)
		}
		return ctx.Err()
	}
}
