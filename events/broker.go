package events

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/hub"
)

// Broker brings the events of a hub to its subscriptions. It is safe for concurrent use.
type Broker struct {
	// Static after New.
	config  Config
	metrics *metrics

	// subscriptions is replaced, under mu, and never changed: publishOp reads it for every event.
	subscriptions atomic.Pointer[[]*Subscription]

	mu     sync.Mutex
	roster roster
	gone   chan struct{} // closed, and then nil, when roster.isGone
}

// New returns a Broker without subscriptions. It starts no goroutine. It returns an error if c is
// not valid, or if its instruments are registered already.
func New(c Config) (*Broker, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("events config: %w", err)
	}
	b := &Broker{config: c, roster: roster{limit: c.MaxSubscribers}, gone: make(chan struct{})}
	b.subscriptions.Store(&[]*Subscription{})
	var err error
	if b.metrics, err = newMetrics(c.Metrics, b.countSubscribers); err != nil {
		return nil, fmt.Errorf("events metrics: %w", err)
	}
	return b, nil
}

func (b *Broker) countSubscribers() float64 { return float64(len(*b.subscriptions.Load())) }

// Hub returns the id of the hub that the events come from.
func (b *Broker) Hub() hub.ID { return b.config.Hub }

// Applied is that of a hub.Observer. It queues an event for the subscriptions that select it, and
// never blocks.
func (b *Broker) Applied(c *hub.Connection, op hub.Op) {
	if op.Ordinal != 0 {
		b.publishOp(c, op)
	}
}

// Emitted is that of a hub.Observer. It reports whether the event is queued for a subscription at
// least.
func (b *Broker) Emitted(c *hub.Connection, op hub.Op) bool { return b.publishOp(c, op) }

func (b *Broker) publishOp(c *hub.Connection, op hub.Op) (isQueued bool) {
	subscriptions := *b.subscriptions.Load()
	if len(subscriptions) == 0 {
		return false
	}
	id, kind := c.Identity(), kindOf(op.Kind)
	var e *Event
	for _, s := range subscriptions {
		if !s.filter.selectsEvent(id.Namespace, kind, op.Event) {
			continue
		}
		if e == nil {
			e = newEvent(&id, &op, time.Now())
		}
		isQueued = s.offerEvent(e) || isQueued
	}
	return isQueued
}

// Subscribe returns a subscription that gets the events that f selects, from now on. The events
// that wait count in the account of its subscriber; nil: the limits alone bound them. Errors:
// hub.ErrShuttingDown, ErrTooManySubscribers.
func (b *Broker) Subscribe(f Filter, a Account) (*Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.roster.admitOne(); err != nil {
		return nil, err
	}
	s := newSubscription(newCore(f, b.config.Limits, a), b.metrics)
	if b.roster.isLeaving {
		s.goAway()
	}
	next := append(slices.Clone(*b.subscriptions.Load()), s)
	b.subscriptions.Store(&next)
	return s, nil
}

// Unsubscribe removes a subscription that is over. The way out calls it once.
func (b *Broker) Unsubscribe(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := slices.Clone(*b.subscriptions.Load())
	next = slices.DeleteFunc(next, func(o *Subscription) bool { return o == s })
	b.subscriptions.Store(&next)
	b.roster.removeOne()
	b.signalGoneLocked()
}

// signalGoneLocked lets Shutdown return when the last subscription is gone.
func (b *Broker) signalGoneLocked() {
	if b.roster.isGone() && b.gone != nil {
		close(b.gone)
		b.gone = nil
	}
}

// GoAway tells all subscribers that the hub leaves. They still get events.
func (b *Broker) GoAway() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roster.isLeaving = true
	for _, s := range *b.subscriptions.Load() {
		s.goAway()
	}
}

// Shutdown ends all subscriptions with hub.ErrShuttingDown, each after its way out has taken and
// released all events, and returns when all are unsubscribed. When ctx is done it ends them at
// once, and returns the error of ctx. The Broker takes no more subscriptions.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.GoAway()
	b.mu.Lock()
	b.roster.isEnding = true
	gone := b.gone
	b.signalGoneLocked()
	left := *b.subscriptions.Load()
	b.mu.Unlock()
	if gone == nil {
		return nil
	}
	for _, s := range left {
		s.finishEvents()
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		for _, s := range left {
			s.End(hub.ErrShuttingDown)
		}
		return ctx.Err()
	}
}
