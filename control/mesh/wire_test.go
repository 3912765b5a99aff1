package mesh

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// wire is one link: a Control and a Data stream, dialled by from. What is on its way when an end closes still arrives: a
// shell may have read it just before.
type wire struct {
	from, to             *node
	named                hub.ID // whom it was dialled as
	epoch                uint64
	fromOpen, toOpen     bool
	accepted             bool
	there, back, forward stream
}

// stream is one direction of a wire.
type stream struct {
	from, to *node
	packets  []packet
	held     []packet
}

type packet struct {
	at time.Duration
	do func()
	is string
}

func (s *sim) wire(from *node, to hub.ID, epoch uint64) *wire {
	for _, w := range slices.Backward(s.wires) {
		if w.from == from && w.to.id == to && w.epoch == epoch {
			return w
		}
	}
	s.fail("no link %s/%d to %s", from.id, epoch, to)
	return nil
}

// put sends a packet.
func (x *stream) put(s *sim, is string, do func()) {
	at := s.now + s.delay()
	if n := len(x.packets); n > 0 {
		at = max(at, x.packets[n-1].at)
	}
	if s.holds[hold{x.from.id, x.to.id, is}] {
		x.held = append(x.held, packet{at, do, is})
		return
	}
	x.packets = append(x.packets, packet{at, do, is})
}

func (x *stream) empty() bool { return len(x.packets)+len(x.held) == 0 }

// hold names packets that do not go out for now.
type hold struct {
	from, to hub.ID
	is       string
}

// release lets go the first of what was held, or all with 0, behind all else.
func (s *sim) release(h hold, first int) {
	if first == 0 {
		delete(s.holds, h)
	}
	for _, w := range s.wires {
		for _, x := range []*stream{&w.there, &w.back, &w.forward} {
			x.release(s.now, h, first)
		}
	}
	for _, n := range s.nodes {
		n.local.release(s.now, h, first)
	}
}

func (x *stream) release(now time.Duration, h hold, first int) {
	if x.from == nil || x.from.id != h.from || x.to.id != h.to {
		return
	}
	held := x.held
	x.held = nil
	for n, p := range held {
		if p.is == h.is && (first == 0 || n < first) {
			p.at = now
			x.packets = append(x.packets, p)
		} else {
			x.held = append(x.held, p)
		}
	}
}

// end has one end of the wire notice that it is over; tell: the other end hears of it.
func (w *wire) end(n *node, tell bool) {
	open, other, stream := &w.fromOpen, &w.toOpen, &w.there
	if n == w.to {
		open, other, stream = other, open, &w.back
	}
	if !*open {
		return
	}
	*open = false
	if tell && *other {
		far := stream.to
		stream.put(n.sim, "end", func() { w.close(far) })
	}
}

// close is end for an end that did not ask for it.
func (w *wire) close(n *node) {
	w.end(n, true)
	w.tell(n)
}

// tell has n's core know that the wire is over.
func (w *wire) tell(n *node) {
	if n == w.from {
		n.apply(n.core.handleLinkLoss(n.clock(), w.named, w.epoch))
		n.apply(n.core.handleDialFailure(n.clock(), w.named, w.epoch, dialUnproven))
	} else {
		n.apply(n.core.handleLinkEnd(n.clock(), w.from.id, w.epoch))
	}
}

// sever ends the links between two hubs; both notice.
func (s *sim) sever(a, b *node) {
	s.reset(a, b)
	s.reset(b, a)
}

// reset ends the links between two hubs for a only.
func (s *sim) reset(a, b *node) {
	for _, w := range slices.Clone(s.wires) {
		if (w.from == a || w.to == a) && (w.from == b || w.to == b) && a != b {
			w.drop(a)
		}
	}
}

// drop is close without a word to the other end.
func (w *wire) drop(n *node) {
	open := &w.fromOpen
	if n == w.to {
		open = &w.toOpen
	}
	if *open {
		*open = false
		w.tell(n)
	}
}
