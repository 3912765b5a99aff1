package edge

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
)

// errDropped ends a handshake whose place in line the lobby gave to a newcomer of another address.
var errDropped = errors.New("dropped from the line of handshakes: another address wants in")

// cores are the cores of the hub, and the line of handshakes that wait for one.
//
// Problem: a stranger pays one packet for a place in line. In one line for all, an address with a thousand places would have
// all others wait for a thousand handshakes.
//
// Outline: each address has a queue of its own, in order. A core that becomes free goes to the addresses in turn. So a handshake
// waits for one handshake of each other address, and for those of its own address that came before.
type cores struct {
	mu        sync.Mutex
	free      int       // above 0: the line is empty
	addresses list.List // of *queue, in the order of their turns; none is empty
	queues    map[netip.Addr]*queue
}

// queue is the places of one address, in the order in which they came. cores.mu guards it.
type queue struct {
	from    netip.Addr
	places  list.List // of *place
	element *list.Element
}

// place is where one handshake waits.
type place struct {
	queue   *queue
	element *list.Element // nil: it has a core
	ready   chan struct{} // closed when it has a core
}

func newCores(n int) *cores { return &cores{free: n, queues: make(map[netip.Addr]*queue)} }

// acquire waits in line for a core. Its error is errDropped if dropped is closed first, and errCut if cut is.
func (c *cores) acquire(from netip.Addr, dropped, cut <-chan struct{}) error {
	p := c.join(from)
	var err error
	select {
	case <-p.ready:
	case <-dropped:
	case <-cut:
	}
	select { // a core is of no use to a handshake that was ended
	case <-dropped:
		err = errDropped
	case <-cut:
		err = errCut
	default:
		return nil
	}
	c.leave(p)
	return err
}

// join returns a place, which may have a core already.
func (c *cores) join(from netip.Addr) *place {
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

// leave gives a place up, or the core that it has got.
func (c *cores) leave(p *place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.element == nil {
		c.releaseLocked()
		return
	}
	c.removeLocked(p)
}

// release gives a core to the next in line.
func (c *cores) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked()
}

func (c *cores) releaseLocked() {
	front := c.addresses.Front()
	if front == nil {
		c.free++
		return
	}
	q := front.Value.(*queue)
	c.addresses.MoveToBack(front)
	p := q.places.Front().Value.(*place)
	c.removeLocked(p)
	close(p.ready)
}

func (c *cores) removeLocked(p *place) {
	q := p.queue
	q.places.Remove(p.element)
	p.element = nil
	if q.places.Len() == 0 {
		c.addresses.Remove(q.element)
		delete(c.queues, q.from)
	}
}
