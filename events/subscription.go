package events

import "sync"

// Subscription is the shell of a core: its lock, and its end towards a way out. A way out
//
//   - takes batches until one is empty, and then waits for News or Over;
//   - releases each batch that is not empty, also after the end;
//   - calls Broker.Unsubscribe after Over.
//
// Take, Release and End are safe for concurrent use, but the order of events is only kept by a way
// out that takes and gives batches one by one. None of them blocks.
type Subscription struct {
	// Static.
	metrics *metrics
	filter  *Filter       // the core's
	news    chan struct{} // holds an element when there is something to take
	over    chan struct{} // closed when the core is over

	mu   sync.Mutex
	core *core
}

func newSubscription(c *core, m *metrics) *Subscription {
	return &Subscription{
		metrics: m, filter: &c.filter, core: c,
		news: make(chan struct{}, 1), over: make(chan struct{}),
	}
}

// News returns a channel that has an element when there is something to take again.
func (s *Subscription) News() <-chan struct{} { return s.news }

// Over returns a channel that is closed when the subscription is over. Err tells why.
func (s *Subscription) Over() <-chan struct{} { return s.over }

// Err returns why the subscription is over: ErrSubscriberSlow, hub.ErrShuttingDown, or the error of
// End. It returns nil while it is not.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.err
}

// Take takes events that wait: at most so many, and none any more once they have so many bytes.
// They are in the memory of spare, which may be nil. The batch of a subscription that is over is
// empty.
func (s *Subscription) Take(spare []*Event, most int, bytes int64) Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.takeBatch(spare, most, bytes)
}

// Release says that the way out is done with a batch. isGiven: the subscriber has it; otherwise it
// never gets it.
func (s *Subscription) Release(b Batch, isGiven bool) {
	if isGiven {
		s.metrics.countGiven(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carryOutLocked(s.core.releaseBatch(b))
}

// End ends the subscription with an error, at once. Events that wait are given to no one. The first
// end counts.
func (s *Subscription) End(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carryOutLocked(s.core.endNow(err))
}

// offerEvent reports whether the event is queued.
func (s *Subscription) offerEvent(e *Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fx := s.core.offerEvent(e)
	s.carryOutLocked(fx)
	return fx.isQueued
}

func (s *Subscription) goAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carryOutLocked(s.core.goAway())
}

func (s *Subscription) finishEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carryOutLocked(s.core.finishEvents())
}

func (s *Subscription) carryOutLocked(fx effects) {
	if fx.dropped != 0 {
		s.metrics.dropped[fx.dropped].Inc()
	}
	if fx.wakes {
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
	if fx.isOver {
		close(s.over)
	}
}
