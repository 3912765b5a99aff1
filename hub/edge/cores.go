package edge

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
)

// errDropped ends a handshake whose place in line the lobby gave to a newcomer of another address.
var errDropped = errors.New("dropped from the line of handshakes: another address wants in")

// cores are the cores of the hub, and the line of handshakes that wait for a core.
//
// Problem: a client pays a single packet for a place in line. In a single line, an address with a
// thousand places would make everybody else wait for a thousand handshakes.
//
// Outline: each address has a queue of its own, in order. A core that becomes free goes to the
// addresses in turn. So a handshake waits for a single handshake of each further address, and for
// the earlier handshakes of its own address.
type cores struct {
	mu        sync.Mutex
	free      int       // above 0: the line is empty
	addresses list.List // of *queue, in the order of their turns; none is empty
	queues    map[netip.Addr]*queue
}

// queue holds the places of an address, in the order in which they came. cores.mu guards it.
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

func newCores(n int) *cores { return &cores{free: n, queues: make(map[netip.Addr]*queue)} }

// acquireCore waits in line for a core. It returns errDropped if dropped is closed first, and
// errCut if cut is closed first.
func (c *cores) acquireCore(from netip.Addr, dropped, cut <-chan struct{}) error {
	p := c.joinLine(from)
	var err error
	select {
	case <-p.ready:
	case <-dropped:
	case <-cut:
	}
	// A core is of no use to a handshake that was ended.
	select {
	case <-dropped:
		err = errDropped
	case <-cut:
		err = errCut
	default:
		return nil
	}
	c.leaveLine(p)
	return err
}

// joinLine returns a new place. The place has a core already if a core was free.
func (c *cores) joinLine(from netip.Addr) *place {
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
func (c *cores) leaveLine(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.element == nil {
		c.releaseCoreLocked()
		return
	}
	c.removePlaceLocked(p)
}

// releaseCore gives a core to the next place in line.
func (c *cores) releaseCore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseCoreLocked()
}

func (c *cores) releaseCoreLocked() {
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

func (c *cores) removePlaceLocked(p *place) {
	q := p.queue
	q.places.Remove(p.element)
	p.element = nil
	if q.places.Len() == 0 {
		c.addresses.Remove(q.element)
		delete(c.queues, q.from)
	}
}
