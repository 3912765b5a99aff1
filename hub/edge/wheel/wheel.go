// Package wheel tells when to look at each of many links.
//
// # Problem
//
// A hub must find the clients that have gone silent. A timer for each link would be a million
// timers, moved with each byte of input.
//
// # Outline
//
// A Wheel has a slot for each second. A link is in the slot of the second in which it is checked
// next. The check tells when to check again: for a link that has shown life, that is when its
// silence would be long enough. So an active link costs a check for each such time, and noting a
// sign of life costs no more than an atomic store.
//
// # Goroutines
//
// A wheel has a goroutine while it has links. Config.Goroutines counts it.
//
// # Locking
//
// The wheel's lock is not held while a link is checked, because that writes. It is held while a
// link is aborted.
package wheel

import (
	"sync"
	"time"
)

// Tick is the period of a Wheel: checks come in whole seconds.
const Tick = time.Second

// Link is a link in a Wheel. A Wheel may have links of several types.
type Link interface {
	// CheckLink looks at the link, and returns when to check it again. now and the result are times
	// on the wheel's clock. CheckLink must not wait for a client. It may run after Remove, and
	// never concurrently with itself.
	CheckLink(now time.Duration) (again time.Duration)
	// AbortLink ends the link at once. It must neither block nor call the Wheel.
	AbortLink()
}

// Place is a link's place in a Wheel: a part of the link, of five words.
type Place struct {
	next, previous *Place
	link           Link
	slot           int32
	in             bool // in a slot; false while the link is being checked
	gone           bool // removed for good
}

// Config configures a Wheel. All fields are required.
type Config struct {
	// Started is the zero of the wheel's clock.
	Started time.Time
	// Longest is the longest time between two checks of a link. A later check comes early.
	Longest time.Duration
	// Goroutines counts the wheel's goroutine. It must not be zero when Add is called.
	Goroutines *sync.WaitGroup
}

// Wheel checks links. It is safe for concurrent use.
type Wheel struct {
	config Config // static

	mu       sync.Mutex
	slots    []*Place // heads of lists
	second   int      // the last second whose slot was checked
	links    int
	stop     chan struct{} // ends the goroutine; nil: no goroutine runs
	aborting bool
}

// New returns a wheel without links. It starts no goroutine.
func New(c Config) *Wheel {
	return &Wheel{config: c, slots: make([]*Place, int(c.Longest/Tick)+3)}
}

// Add puts a new link into the wheel. It is checked in the first second that begins at or after
// due.
func (w *Wheel) Add(l Link, at *Place, due time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links++
	if w.stop == nil {
		stop := make(chan struct{})
		w.stop = stop
		w.second = int(w.sinceStart() / Tick)
		w.config.Goroutines.Go(func() { w.turnWheel(stop) })
	}
	at.link = l
	w.insertLocked(at, due)
}

// Remove takes a link out of the wheel for good.
func (w *Wheel) Remove(at *Place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.links--; w.links == 0 {
		close(w.stop)
		w.stop = nil
	}
	at.gone = true
	if !at.in {
		return
	}
	if at.previous != nil {
		at.previous.next = at.next
	} else {
		w.slots[at.slot] = at.next
	}
	if at.next != nil {
		at.next.previous = at.previous
	}
	at.next, at.previous, at.in = nil, nil, false
}

// AbortAll ends all links, present and future.
func (w *Wheel) AbortAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aborting = true
	for _, p := range w.slots {
		for ; p != nil; p = p.next {
			p.link.AbortLink()
		}
	}
}

// insertLocked puts a place into the slot of the first second that begins at or after due.
func (w *Wheel) insertLocked(at *Place, due time.Duration) {
	if at.gone {
		return
	}
	if w.aborting {
		at.link.AbortLink()
	}
	second := int((due + Tick - 1) / Tick)
	second = min(max(second, w.second+1), w.second+len(w.slots)-1)
	at.slot = int32(second % len(w.slots))
	head := w.slots[at.slot]
	at.next, at.previous, at.in = head, nil, true
	if head != nil {
		head.previous = at
	}
	w.slots[at.slot] = at
}

// turnWheel checks the links of each slot when its second has come, until stop is closed.
func (w *Wheel) turnWheel(stop <-chan struct{}) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	var due []*Place
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		due = w.takeDue(due)
		w.checkLinks(due)
		clear(due) // so that due does not keep ended links alive
	}
}

// takeDue takes all places out of the slots whose second has come: of several, if the wheel was
// late. Otherwise a check that is put off could go into a slot that is late itself.
func (w *Wheel) takeDue(due []*Place) []*Place {
	w.mu.Lock()
	defer w.mu.Unlock()
	due = due[:0]
	for now := int(w.sinceStart() / Tick); w.second < now; {
		w.second++
		slot := w.second % len(w.slots)
		for p := w.slots[slot]; p != nil; {
			next := p.next
			p.next, p.previous, p.in = nil, nil, false
			due = append(due, p)
			p = next
		}
		w.slots[slot] = nil
	}
	return due
}

// checkLinks checks the links of places, and puts the places back.
func (w *Wheel) checkLinks(due []*Place) {
	for _, p := range due {
		again := p.link.CheckLink(w.sinceStart())
		w.mu.Lock()
		w.insertLocked(p, again)
		w.mu.Unlock()
	}
}

// sinceStart returns the time on the wheel's clock.
func (w *Wheel) sinceStart() time.Duration { return time.Since(w.config.Started) }
