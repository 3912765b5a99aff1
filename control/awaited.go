package control

import (
	"sync"
	"time"
)

// awaited are the sends of a stream whose results are not due yet: there are many, and a goroutine for each would cost more
// than the rest of a send. The goroutine that finds out the last outcome puts the send among those that have arrived; the
// stream's handler gives their results.
//
// Invariant: a send that was added is in open or in arrived, until takeArrived or end.
type awaited struct {
	notify func() // some may have arrived; static

	mu      sync.Mutex
	open    map[*awaitedSend]struct{}
	arrived []*awaitedSend
	timer   *time.Timer
	at      time.Time // when it fires; zero: it does not
	ended   bool
}

// awaitedSend is one of them.
type awaitedSend struct {
	begun
	of    *awaited
	until time.Time
	stop  func() // calls off what then began; guarded by of.mu, nil while add is busy
}

// asynchronous is a sending that can tell when Receipt would not wait.
type asynchronous interface {
	sending
	// dueAt is when the receipt is due anyway.
	dueAt() time.Time
	// then has done called when Receipt would not wait, instead of waiting for it: from then on Receipt never does. done
	// is called once at most, maybe at once, by a goroutine that may hold locks of the hub. stop calls it off.
	then(done func()) (stop func())
}

// newAwaited returns one that calls notify, which must not wait.
func newAwaited(notify func()) *awaited {
	a := &awaited{notify: notify, open: make(map[*awaitedSend]struct{})}
	a.timer = time.AfterFunc(time.Hour, a.expire)
	a.timer.Stop()
	return a
}

// add takes a send.
func (a *awaited) add(b *begun, of asynchronous) {
	s := &awaitedSend{begun: *b, of: a, until: of.dueAt()}
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.open[s] = struct{}{}
	if a.at.IsZero() || s.until.Before(a.at) {
		a.at = s.until
		a.timer.Reset(time.Until(s.until))
	}
	a.mu.Unlock()
	stop := of.then(s.done)
	a.mu.Lock()
	_, open := a.open[s]
	s.stop = stop
	a.mu.Unlock()
	if !open {
		stop()
	}
}

// done says that the send has arrived, if nothing else has said so.
func (s *awaitedSend) done() {
	a := s.of
	a.mu.Lock()
	_, open := a.open[s]
	if open {
		delete(a.open, s)
		a.arrived = append(a.arrived, s)
	}
	a.mu.Unlock()
	if open {
		a.notify()
	}
}

// expire takes for arrived what is due anyway.
func (a *awaited) expire() {
	a.mu.Lock()
	now := time.Now()
	var stops []func()
	a.at = time.Time{} // a send that arrived has left its time here
	for s := range a.open {
		switch {
		case !now.Before(s.until):
			delete(a.open, s)
			a.arrived = append(a.arrived, s)
			if s.stop != nil {
				stops = append(stops, s.stop)
			}
		case a.at.IsZero() || s.until.Before(a.at):
			a.at = s.until
		}
	}
	if !a.at.IsZero() {
		a.timer.Reset(time.Until(a.at))
	}
	a.mu.Unlock()
	for _, stop := range stops { // under the lock it would meet one that calls done
		stop()
	}
	a.notify()
}

// takeArrived returns the sends whose results are due.
func (a *awaited) takeArrived() []*awaitedSend {
	a.mu.Lock()
	defer a.mu.Unlock()
	arrived := a.arrived
	a.arrived = nil
	return arrived
}

// end forgets all, and what comes after it: nobody gives results any more.
func (a *awaited) end() {
	a.mu.Lock()
	a.ended = true
	a.timer.Stop()
	open := a.open
	a.open, a.arrived = make(map[*awaitedSend]struct{}), nil
	var stops []func()
	for s := range open {
		if s.stop != nil {
			stops = append(stops, s.stop)
		}
	}
	a.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}
