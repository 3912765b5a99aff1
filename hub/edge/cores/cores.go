// Package cores gives the cores of a hub to handshakes, and has the line of those that wait.
//
// # Goroutines
//
// None. A handshake waits on the goroutine of its caller.
//
// # Locking
//
// Cores.mu is held alone.
//
// # Backpressure
//
// The line has no bound of its own: each place is a stranger's in a lobby, which is bounded.
package cores

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
)

// The errors of Acquire.
var (
	// ErrDropped ends a handshake whose place in line the lobby gave to a newcomer of another
	// address.
	ErrDropped = errors.New("dropped from the line of handshakes: another address wants in")
	// ErrCut ends the handshakes in line when the server shuts down.
	ErrCut = errors.New("the hub is shutting down")
)

// Cores are the cores of a hub, and the line of handshakes that wait for a core. It is safe for
// concurrent use.
//
// Problem: a client pays a single packet for a place in line. In a single line, an address with a
// thousand places would make everybody else wait for a thousand handshakes.
//
// Outline: each address has a queue of its own, in order. A core that becomes free goes to the
// addresses in turn. So a handshake waits for a single handshake of each further address, and for
// the earlier handshakes of its own address.
type Cores struct {
	mu        sync.Mutex
	free      int       // above 0: the line is empty
	addresses list.List // of *queue, in the order of their turns; none is empty
	queues    map[netip.Addr]*queue
}

// queue holds the places of an address, in the order in which they came. Cores.mu guards it.
type queue struct {
	from    netip.Addr
	places  list.List // of *place
	element *list.Element
}

// place is where a handshake waits.
type place struct {
	queue   *queue
	element *list.Element // nil: the place has a core
	ready   chan struct{} // closed when the place has a core
}

// New returns n free cores.
func New(n int) *Cores { return &Cores{free: n, queues: make(map[netip.Addr]*queue)} }

// Acquire waits in line for a core. It calls joined when it has its place. It returns ErrDropped if
// dropped is closed first, and ErrCut if cut is closed first.
func (c *Cores) Acquire(from netip.Addr, joined func(), dropped, cut <-chan struct{}) error {
	p := c.joinLine(from)
	joined()
	var err error
	select {
	case <-p.ready:
	case <-dropped:
	case <-cut:
	}
	// A core is of no use to a handshake that was ended.
	select {
	case <-dropped:
		err = ErrDropped
	case <-cut:
		err = ErrCut
	default:
		return nil
	}
	c.leaveLine(p)
	return err
}

// joinLine returns a new place. The place has a core already if a core was free.
func (c *Cores) joinLine(from netip.Addr) *place {
	p := &place{ready: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free > 0 {
		c.free--
		close(p.ready)
		return p
	}
	q := c.queues[from]
	if q == nil {
		q = &queue{from: from}
		q.element = c.addresses.PushBack(q)
		c.queues[from] = q
	}
	p.queue, p.element = q, q.places.PushBack(p)
	return p
}

// leaveLine gives up a place, or its core if it has a core.
func (c *Cores) leaveLine(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.element == nil {
		c.releaseLocked()
		return
	}
	c.removePlaceLocked(p)
}

// Release gives a core to the next place in line.
func (c *Cores) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked()
}

func (c *Cores) releaseLocked() {
	front := c.addresses.Front()
	if front == nil {
		c.free++
		return
	}
	q := front.Value.(*queue)
	c.addresses.MoveToBack(front)
	p := q.places.Front().Value.(*place)
	c.removePlaceLocked(p)
	close(p.ready)
}

func (c *Cores) removePlaceLocked(p *place) {
	q := p.queue
	q.places.Remove(p.element)
	p.element = nil
	if q.places.Len() == 0 {
		c.addresses.Remove(q.element)
		delete(c.queues, q.from)
	}
}
