package control

import (
	"sync"
	"time"
)

// awaited are the sends of a stream that wait for other hubs, and for nothing else: there are many, and a goroutine for each
// would cost more than the rest of a send. Whoever finds out the last outcome has the send answered: mostly the one who reads
// what the other hub says.
//
// Invariant: a send that is in open has one answer to come; who takes it out gives it.
type awaited struct {
	answer func(*awaitedSend) // static

	mu    sync.Mutex
	open  map[*awaitedSend]struct{}
	timer *time.Timer
	at    time.Time // when it fires; zero: it does not
	ended bool
}

// awaitedSend is one of them.
type awaitedSend struct {
	begun
	of      *awaited
	until   time.Time
	arrived bool // guarded by of.mu
}

// asynchronous is a sending that can tell when other hubs have done their part.
type asynchronous interface {
	sending
	// waits reports whether Receipt would wait for other hubs, and for nothing else; and until when.
	waits() (time.Time, bool)
	// then has done called when they have, instead of waiting for it: from then on Receipt does not wait. It is called once.
	then(done func())
}

func newAwaited(answer func(*awaitedSend)) *awaited {
	a := &awaited{answer: answer, open: make(map[*awaitedSend]struct{})}
	a.timer = time.AfterFunc(time.Hour, a.expire)
	a.timer.Stop()
	return a
}

// add takes a send.
func (a *awaited) add(b *begun, of asynchronous, until time.Time) {
	s := &awaitedSend{begun: *b, of: a, until: until}
	of.then(s.done)
	a.mu.Lock()
	wait := !s.arrived && !a.ended
	if wait {
		a.open[s] = struct{}{}
		if a.at.IsZero() || until.Before(a.at) {
			a.at = until
			a.timer.Reset(time.Until(until))
		}
	}
	a.mu.Unlock()
	if !wait {
		a.answer(s)
	}
}

// done answers a send, if it is not answered yet; one that is not in open is answered by add.
func (s *awaitedSend) done() {
	a := s.of
	a.mu.Lock()
	_, open := a.open[s]
	delete(a.open, s)
	s.arrived = true
	a.mu.Unlock()
	if open {
		a.answer(s)
	}
}

// expire answers the sends that are due anyway.
func (a *awaited) expire() {
	a.mu.Lock()
	now := time.Now()
	var due []*awaitedSend
	a.at = time.Time{} // a send that was answered has left its time here
	for s := range a.open {
		switch {
		case a.ended || !now.Before(s.until):
			due = append(due, s)
			delete(a.open, s)
		case a.at.IsZero() || s.until.Before(a.at):
			a.at = s.until
		}
	}
	if !a.at.IsZero() {
		a.timer.Reset(time.Until(a.at))
	}
	a.mu.Unlock()
	for _, s := range due {
		a.answer(s)
	}
}

// end answers all, and what comes after it at once.
func (a *awaited) end() {
	a.mu.Lock()
	a.ended = true
	a.timer.Stop()
	a.mu.Unlock()
	a.expire()
}
