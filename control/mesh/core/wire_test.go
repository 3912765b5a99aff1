package core

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// wire is a link: a Control and a Data stream, dialled by from. Messages on their way when an end
// closes still arrive: a shell may have read them just before.
type wire struct {
	from, to             *node
	named                hub.ID // the hub that the dial expects
	epoch                uint64
	fromOpen, toOpen     bool
	accepted             bool
	there, back, forward stream
}

// stream is a direction of a wire.
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

// hold names kinds of packets that wait for now.
type hold struct {
	from, to hub.ID
	is       string
}

// release sends the first n held packets, or all with 0, after all packets on their way.
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

// end makes an end of the wire notice that the wire is over. tell: the far end hears of it.
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

// tell tells n's core that the wire is over.
func (w *wire) tell(n *node) {
	if n == w.from {
		n.apply(n.core.HandleLinkLoss(n.clock(), w.named, w.epoch))
		n.apply(n.core.HandleDialFailure(n.clock(), w.named, w.epoch, dialUnproven))
	} else {
		n.apply(n.core.HandleLinkEnd(n.clock(), w.from.id, w.epoch))
	}
}

// sever ends the links between two hubs; both notice.
func (s *sim) sever(a, b *node) {
	s.reset(a, b)
	s.reset(b, a)
}

// reset ends the links between two hubs, and only a notices.
func (s *sim) reset(a, b *node) {
	for _, w := range slices.Clone(s.wires) {
		if (w.from == a || w.to == a) && (w.from == b || w.to == b) && a != b {
			w.drop(a)
		}
	}
}

// drop is close without telling the far end.
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
