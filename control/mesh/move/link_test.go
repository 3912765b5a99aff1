package move

import (
	"slices"

	"github.com/connhub/connhub/hub"
)

// link is the streams that a hub has dialled to a peer. Either end notices first that it is over.
// Messages on their way may still arrive at the other end, until that end notices, too.
type link struct {
	pair // static

	isDialling bool // accepted, but the hello is on its way to the dialling hub
	isUp       bool // at the dialling hub
	isAccepted bool // at the dialled hub
	isSecond   bool // there was a link before
	// requests and responses by stream: 0 is beside the lanes, i+1 is lane i.
	requests, responses [][]Message
}

// helloKind is the answer that makes a link ready.
const helloKind = kindEnd

func newLink(p pair, lanes int) *link {
	return &link{
		pair:     p,
		requests: make([][]Message, lanes+1), responses: make([][]Message, lanes+1),
	}
}

// stream names a queue of messages in order.
type stream struct {
	pair

	isRequest bool
	number    int
}

func (w *world) pairs() (all []pair) {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if a != b {
				all = append(all, pair{a.id, b.id})
			}
		}
	}
	return all
}

func (l *link) queue(isRequest bool, number int) *[]Message {
	if isRequest {
		return &l.requests[number]
	}
	return &l.responses[number]
}

// put sends a message. It is lost if the far end has noticed that the link is over.
func (w *world) put(p pair, isRequest bool, m Message) {
	l := w.links[p]
	m, ok := w.wrong.alter(l, m)
	if !ok || isRequest && !l.isAccepted || !isRequest && !l.isUp && !l.isDialling {
		return
	}
	number := 0
	if m.Kind.IsOfLane() {
		number = m.Lane + 1
	}
	q := l.queue(isRequest, number)
	*q = append((*q)[:len(*q):len(*q)], m) // copies of the world share it
}

// waiting returns the streams with a message that can arrive.
func (w *world) waiting() (all []stream) {
	for _, p := range w.pairs() {
		l := w.links[p]
		for i := range l.requests {
			if len(l.requests[i]) > 0 && l.isAccepted && !w.node(p.to).dead {
				all = append(all, stream{p, true, i})
			}
			// Responses of lanes wait for the hello, as the lanes open after it.
			if len(l.responses[i]) > 0 && (l.isUp || l.isDialling && i == 0) &&
				!w.node(p.from).dead {
				all = append(all, stream{p, false, i})
			}
		}
	}
	return all
}

// deliver lets the first message of a stream arrive.
func (w *world) deliver(s stream) {
	l := w.links[s.pair]
	q := l.queue(s.isRequest, s.number)
	m := (*q)[0]
	*q = (*q)[1:]
	if m.Kind == helloKind {
		l.isDialling, l.isUp = false, true
		n := w.node(s.from)
		n.interested[s.to] = m.Complete // the link before counts no more
		w.trace("%s is linked to %s", s.from, s.to)
		n.perform(n.core.HandleLinked(w.now, s.to))
		w.endFenced()
		return
	}
	if s.isRequest {
		w.trace("%s→%s %s", s.from, s.to, describe(m))
		n := w.node(s.to)
		if m.Kind != Call {
			n.addQuick()
		}
		n.perform(n.core.HandleRequest(w.now, s.from, m))
	} else {
		w.trace("%s←%s %s", s.from, s.to, describe(m))
		n := w.node(s.from)
		n.interested[s.to] = n.interested[s.to] || m.Kind == Announce && m.Move.To == s.to
		if m.Kind == Result && len(m.Moved) == 0 && n.answerQuick(m.Number, s.to) {
			return
		}
		n.addQuick()
		n.perform(n.core.HandleResponse(w.now, s.to, m))
	}
	w.endFenced()
}

// deliverAll empties the streams of a link.
func (w *world) deliverAll(p pair) {
	for {
		i := slices.IndexFunc(w.waiting(), func(s stream) bool { return s.pair == p })
		if i < 0 {
			return
		}
		w.deliver(w.waiting()[i])
	}
}

// canDial reports whether a hub can dial a peer now.
func (w *world) canDial(p pair) bool {
	l := w.links[p]
	return !l.isUp && !l.isDialling && !w.node(p.from).dead && !w.node(p.to).dead
}

// dial begins a link. The peer first ends the link before.
func (w *world) dial(p pair) {
	n := w.node(p.to)
	l := newLink(p, w.lanes)
	if w.links[p] != nil {
		w.endAccepted(p)
		l.isSecond = true
	}
	w.links[p] = l
	l.isDialling, l.isAccepted = true, true
	l.responses[0] = []Message{{Kind: helloKind, Complete: n.hasInterest()}}
	n.perform(n.core.HandleAccepted(w.now, p.from, true))
}

// cutDialled ends a link at the dialling hub.
func (w *world) cutDialled(p pair) {
	l, n := w.links[p], w.node(p.from)
	wasUp := l.isUp
	l.isUp, l.isDialling = false, false
	clearAll(l.responses)
	if wasUp && !n.dead {
		w.trace("%s loses its link to %s", p.from, p.to)
		n.loseQuick(p.to)
		n.perform(n.core.HandleLinkLoss(w.now, p.to))
	}
}

// endAccepted ends a link at the dialled hub.
func (w *world) endAccepted(p pair) {
	l, n := w.links[p], w.node(p.to)
	was := l.isAccepted
	l.isAccepted = false
	clearAll(l.requests)
	if was && !n.dead {
		w.trace("%s ends the link of %s", p.to, p.from)
		n.perform(n.core.HandleLinkEnd(w.now, p.from))
	}
}

func clearAll(queues [][]Message) {
	for i := range queues {
		queues[i] = nil
	}
}

// halfOver returns the links that are over at an end alone: isDialled reports which end is left.
func (w *world) halfOver() (dialled, accepted []pair) {
	for _, p := range w.pairs() {
		switch l := w.links[p]; {
		case (l.isUp || l.isDialling) && !l.isAccepted && !w.node(p.from).dead:
			dialled = append(dialled, p)
		case !l.isUp && !l.isDialling && l.isAccepted && !w.node(p.to).dead:
			accepted = append(accepted, p)
		}
	}
	return dialled, accepted
}

// endFenced ends the links that cores have fenced or hung up.
func (w *world) endFenced() {
	for _, n := range w.nodes {
		fenced := n.fenced
		n.fenced = nil
		for _, p := range fenced {
			if p.to == n.id {
				w.endAccepted(p)
			} else {
				w.cutDialled(p)
			}
		}
	}
}

// stop ends a hub process. Its peers notice later.
func (w *world) stop(n *node) {
	w.trace("%s stops", n.id)
	w.noteStop(n)
	for _, r := range n.calls {
		w.noteUnknown(r)
	}
	n.dead, n.calls, n.freezing, n.quick = true, nil, nil, nil
	n.conns, n.shadows = map[hub.ConnectionID]*conn{}, map[hub.ConnectionID]*conn{}
	for id, c := range w.clients {
		if c.at == n.id {
			c.loseLink(n)
		}
		if c.asks == n.id {
			w.clients[id].asks = ""
		}
	}
	for _, m := range w.nodes {
		if m != n {
			l := w.links[pair{n.id, m.id}]
			l.isUp, l.isDialling = false, false
			clearAll(l.responses)
			l = w.links[pair{m.id, n.id}]
			l.isAccepted = false
			clearAll(l.requests)
		}
	}
}

// canDeclare reports whether a hub can be declared dead: no live hub has a link with it.
func (w *world) canDeclare(n *node) bool {
	if !n.dead || n.isDeclared {
		return false
	}
	for _, m := range w.nodes {
		if m == n || m.dead {
			continue
		}
		l := w.links[pair{m.id, n.id}]
		if l.isUp || l.isDialling || w.links[pair{n.id, m.id}].isAccepted {
			return false
		}
	}
	return true
}

func (w *world) declare(n *node) {
	w.trace("%s is declared dead", n.id)
	n.isDeclared = true
	for _, m := range w.nodes {
		if !m.dead {
			m.perform(m.core.HandleDeath(w.now, n.id))
		}
	}
	w.endFenced()
}
