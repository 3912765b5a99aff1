// Package waitlist keeps many waits as entries in a list, where a goroutine for each would cost more than the rest of
// what is waited for. One goroutine owns a list and answers what has arrived; the goroutines that end waits only tell it.
package waitlist

import (
	"container/heap"
	"sync"
	"time"
)

// List holds waits that end when they are told, or at their deadline. Its methods may be called concurrently. It has one
// timer, and bounds nothing: the caller counts what it adds.
//
// Invariant: what was added is in open or in arrived, until TakeArrived or End. While open is not empty, the timer fires
// no later than the first deadline in it.
type List[T any] struct {
	notify func() // static

	mu      sync.Mutex
	open    byDeadline[T]
	arrived []T
	timer   *time.Timer
	at      time.Time // when it fires; zero: it does not
	ended   bool
}

// wait is an entry.
type wait[T any] struct {
	of    *List[T]
	what  T
	until time.Time

	// Guarded by of.mu.
	index int    // in of.open; gone: it has left
	stop  func() // nil while Add is busy
}

// gone is the index of a wait that is over.
const gone = -1

// New returns an empty list. It calls notify when TakeArrived may have something to return. notify must be quick and must
// not wait: the goroutine that ends a wait calls it, with whatever locks that holds.
func New[T any](notify func()) *List[T] {
	l := &List[T]{notify: notify}
	l.timer = time.AfterFunc(time.Hour, l.expire)
	l.timer.Stop()
	return l
}

// Add takes a wait for what. It ends when done is called, or at until. Add calls then once, unless the list has ended. then
// may call done at once. The list calls stop at most once, when nothing waits for done any more; a call of done that comes
// later does nothing.
func (l *List[T]) Add(what T, until time.Time, then func(done func()) (stop func())) {
	w := &wait[T]{of: l, what: what, until: until}
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	heap.Push(&l.open, w)
	l.fireLocked(until)
	l.mu.Unlock()
	stop := then(w.done)
	l.mu.Lock()
	over := w.index == gone
	w.stop = stop
	l.mu.Unlock()
	if over {
		stop()
	}
}

// fireLocked has the timer fire at a time, or before.
func (l *List[T]) fireLocked(at time.Time) {
	if l.at.IsZero() || at.Before(l.at) {
		l.at = at
		l.timer.Reset(time.Until(at))
	}
}

// done ends the wait, if nothing else has.
func (w *wait[T]) done() {
	l := w.of
	l.mu.Lock()
	over := w.index == gone
	if !over {
		heap.Remove(&l.open, w.index)
		l.arrived = append(l.arrived, w.what)
	}
	l.mu.Unlock()
	if !over {
		l.notify()
	}
}

// expire ends the waits whose deadlines have come.
func (l *List[T]) expire() {
	l.mu.Lock()
	now := time.Now()
	l.at = time.Time{} // a wait that was told has left its time here
	var stops []func()
	for len(l.open) > 0 && !now.Before(l.open[0].until) {
		w := heap.Pop(&l.open).(*wait[T])
		l.arrived = append(l.arrived, w.what)
		if w.stop != nil {
			stops = append(stops, w.stop)
		}
	}
	if len(l.open) > 0 {
		l.fireLocked(l.open[0].until)
	}
	l.mu.Unlock()
	for _, stop := range stops { // under the lock it would meet one that calls done
		stop()
	}
	l.notify()
}

// TakeArrived returns what the waits that have ended were for, each once.
func (l *List[T]) TakeArrived() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	arrived := l.arrived
	l.arrived = nil
	return arrived
}

// End stops all waits and forgets what has arrived. What is added later is forgotten too.
func (l *List[T]) End() {
	l.mu.Lock()
	l.ended = true
	l.timer.Stop()
	var stops []func()
	for _, w := range l.open {
		w.index = gone
		if w.stop != nil {
			stops = append(stops, w.stop)
		}
	}
	l.open, l.arrived = nil, nil
	l.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// byDeadline is a heap of waits, the first deadline on top.
type byDeadline[T any] []*wait[T]

var _ heap.Interface = (*byDeadline[int])(nil)

// Len implements heap.Interface.
func (h *byDeadline[T]) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *byDeadline[T]) Less(i, j int) bool { return (*h)[i].until.Before((*h)[j].until) }

// Swap implements heap.Interface.
func (h *byDeadline[T]) Swap(i, j int) {
	all := *h
	all[i], all[j] = all[j], all[i]
	all[i].index, all[j].index = i, j
}

// Push implements heap.Interface.
func (h *byDeadline[T]) Push(x any) {
	w := x.(*wait[T])
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *byDeadline[T]) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.index = gone
	return w
}
