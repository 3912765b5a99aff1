// Package waitlist keeps many pending waits as entries of a list. A goroutine for each wait would
// cost too much memory. A single goroutine takes the waits that have ended and handles them; the
// goroutines that end waits only notify it.
package waitlist

import (
	"container/heap"
	"sync"
	"time"
)

// List holds waits. A wait ends when its done function is called, or at its deadline. A List has a
// single timer for all deadlines. It has no bound: the caller must limit the waits that it adds. It
// is safe for concurrent use.
//
// Invariants:
//
//   - The item of each wait is in open or in arrived, from Add to TakeArrived or End.
//   - While open is not empty, the timer fires at its first deadline or before.
type List[T any] struct {
	notify func() // fixed at New

	mu      sync.Mutex
	open    byDeadline[T] // waits that have not ended
	arrived []T           // items of waits that have ended
	timer   *time.Timer
	at      time.Time // when timer fires; zero: it is stopped
	ended   bool      // End was called
}

// wait is an entry of a List.
type wait[T any] struct {
	list  *List[T]
	item  T
	until time.Time // the deadline

	// Guarded by list.mu.
	index int    // in list.open; gone: the wait has left it
	stop  func() // nil until Add has got it
}

// gone is the index of a wait that has ended.
const gone = -1

// New returns an empty list. It calls notify when TakeArrived may have items to return. notify must
// not block or take locks, because it runs in the goroutine that ends a wait, under the locks that
// this goroutine holds.
func New[T any](notify func()) *List[T] {
	l := &List[T]{notify: notify}
	l.timer = time.AfterFunc(time.Hour, l.expireWaits)
	l.timer.Stop()
	return l
}

// Add adds a wait for item, with the deadline until. It calls start once, unless the list has
// ended.
//
//   - start begins the work that the wait is for, and arranges that done is called at its end. It
//     may call done at once.
//   - The list calls stop at most once, when a call of done is no longer needed: at the deadline,
//     at End, or after start called done at once. A later call of done does nothing.
func (l *List[T]) Add(item T, until time.Time, start func(done func()) (stop func())) {
	w := &wait[T]{list: l, item: item, until: until}
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	heap.Push(&l.open, w)
	l.fireLocked(until)
	l.mu.Unlock()
	stop := start(w.endWait)
	l.mu.Lock()
	over := w.index == gone
	w.stop = stop
	l.mu.Unlock()
	if over {
		stop()
	}
}

// fireLocked makes the timer fire at a time, or before. The caller must hold l.mu.
func (l *List[T]) fireLocked(at time.Time) {
	if l.at.IsZero() || at.Before(l.at) {
		l.at = at
		l.timer.Reset(time.Until(at))
	}
}

// endWait ends the wait, unless it has ended already.
func (w *wait[T]) endWait() {
	l := w.list
	l.mu.Lock()
	over := w.index == gone
	if !over {
		heap.Remove(&l.open, w.index)
		l.arrived = append(l.arrived, w.item)
	}
	l.mu.Unlock()
	if !over {
		l.notify()
	}
}

// expireWaits ends the waits whose deadlines have passed.
func (l *List[T]) expireWaits() {
	l.mu.Lock()
	now := time.Now()
	l.at = time.Time{}
	var stops []func()
	for len(l.open) > 0 && !now.Before(l.open[0].until) {
		w := heap.Pop(&l.open).(*wait[T])
		l.arrived = append(l.arrived, w.item)
		if w.stop != nil {
			stops = append(stops, w.stop)
		}
	}
	if len(l.open) > 0 {
		l.fireLocked(l.open[0].until)
	}
	l.mu.Unlock()
	for _, stop := range stops { // not under l.mu: stop may wait for a goroutine that calls done
		stop()
	}
	l.notify()
}

// TakeArrived removes and returns the items of the waits that have ended.
func (l *List[T]) TakeArrived() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	arrived := l.arrived
	l.arrived = nil
	return arrived
}

// End stops all waits and drops the items that have arrived. A later Add does nothing.
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

// byDeadline is a heap of waits with the earliest deadline on top.
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
