package move

import (
	"github.com/connhub/connhub/hub"
)

// callKey names a call at a hub that carries it out.
type callKey struct {
	hub    hub.ID // where it began
	number uint64
}

// answer is this hub's answer to a call, while a move delays it.
type answer struct {
	lane  int
	body  any // the call
	waits int // held calls
	moved []Move
	size  int // bytes of the body, while the call is held
	holds int // connections for which the call is in a list of held calls
}

// answers are the answers that moves delay.
type answers map[callKey]*answer

// heldCall is a call that waits for the end of a move, for a single connection.
type heldCall struct {
	key  callKey
	of   *answer // also when the link of the call has ended
	from Origin
	// isUnmarked says that the call has come from an origin without a mark, at the old hub.
	isUnmarked bool
}

// heldCalls are the calls that wait for a connection, in their order.
type heldCalls struct {
	calls []heldCall
	bytes int
}

// holdings bounds the calls that a hub holds.
type holdings struct {
	config Config // static
	bytes  int    // of all calls that are held, each counted once
}

// add appends a call. It returns false if that is more than the hub may hold.
func (l *heldCalls) add(hub *holdings, h heldCall) bool {
	if h.of.size == 0 {
		h.of.size = hub.config.SizeOf(h.of.body)
	}
	if h.of.holds++; h.of.holds == 1 {
		hub.bytes += h.of.size
	}
	l.calls = append(l.calls, h)
	l.bytes += h.of.size
	return len(l.calls) <= hub.config.MaxHeld && l.bytes <= hub.config.MaxHeldBytes &&
		hub.bytes <= hub.config.MaxBytes
}

// dropLast removes the call that was added last.
func (l *heldCalls) dropLast(hub *holdings) {
	last := len(l.calls) - 1
	l.calls[last].countOut(hub)
	l.bytes -= l.calls[last].of.size
	l.calls[last] = heldCall{}
	l.calls = l.calls[:last]
}

// takeAll removes and returns all calls.
func (l *heldCalls) takeAll(hub *holdings) []heldCall {
	calls := l.calls
	*l = heldCalls{}
	for _, h := range calls {
		h.countOut(hub)
	}
	return calls
}

func (h heldCall) countOut(hub *holdings) {
	if h.of.holds--; h.of.holds == 0 {
		hub.bytes -= h.of.size
	}
}

// receiveCall takes a call in, and decides which of the connections that move it is for.
func (c *Core) receiveCall(o Origin, m *Message) {
	key := callKey{o.Hub, m.Number}
	a := &answer{lane: m.Lane, body: m.Body, waits: 1} // until Execute
	h := heldCall{key: key, of: a, from: o}
	c.answers[key] = a
	x := Execute{From: o, Number: m.Number, Body: m.Body}
	for _, id := range sortedIDs(c.departures) {
		d, waits := c.departures[id], a.waits
		if d == nil || !d.holdCall(c, a, h) {
			continue
		}
		x.Except = append(x.Except, d.move.Connection)
		if _, marked := d.marked[o]; !marked && a.waits > waits {
			x.Held = append(x.Held, d.move.Connection)
			x.MayReturn = true
		}
	}
	for _, id := range sortedIDs(c.arrivals) {
		r, waits := c.arrivals[id], a.waits
		if r == nil || !r.holdCall(c, a, h) {
			continue
		}
		x.Except = append(x.Except, r.move.Connection)
		if a.waits > waits {
			x.Held = append(x.Held, r.move.Connection)
		}
	}
	c.addEffect(x)
	c.answers.finishHeld(c.links, h)
}

// holdCall decides about a call for a connection that leaves. It reports whether the call is
// not for the connection in the tables.
func (d *departure) holdCall(c *Core, a *answer, h heldCall) bool {
	_, marked := d.marked[h.from]
	switch {
	case d.stage == gone:
		if !marked {
			a.moved = append(a.moved, d.move)
		}
		return false
	case d.stage < sealed && !marked:
		return false
	}
	h.isUnmarked = !marked
	a.waits++
	if !d.held.add(&c.holdings, h) {
		if d.stage < sealed {
			d.abortMove(c, false)
			return true // it has the call already
		}
		d.isLossy = true // so it is not for this hub in any case
		a.waits--
		d.held.dropLast(&c.holdings)
		if !marked {
			a.moved = append(a.moved, d.move)
		}
	}
	return true
}

// holdCall decides about a call for a connection that arrives. It reports whether the call is
// not for the connection in the tables.
func (r *arrival) holdCall(c *Core, a *answer, h heldCall) bool {
	_, marked := r.marked[h.from]
	_, unmarked := r.unmarked[h.from]
	_, unsettled := r.unsettled[h.from]
	switch {
	case !r.isCommitted && !marked, unmarked:
		return true
	case r.isCommitted && !unsettled:
		return false
	}
	a.waits++
	if !r.held.add(&c.holdings, h) {
		r.endWait(c, h.from.Hub)
	}
	return true
}

// endWait keeps this hub from holding too many calls of an origin. It ends the move, if that can
// fail yet, or the wait for calls to be resent: then their outcome is unknown.
func (r *arrival) endWait(c *Core, origin hub.ID) {
	switch {
	case !r.isCommitted:
		r.abandonMove(c)
	case origin == c.self:
		c.addEffect(HangUp{r.move.From})
	default:
		c.addEffect(Fence{origin})
	}
}

// deliverHeld delivers a held call to its connection.
func (all answers) deliverHeld(l *links, connection hub.ConnectionID, h heldCall) {
	l.addEffect(Deliver{h.from, h.key.number, h.of.body, connection})
	all.finishHeld(l, h)
}

// finishHeld ends a wait of a call, and answers the call after the last.
func (all answers) finishHeld(l *links, h heldCall) {
	a := all[h.key]
	if a == nil {
		return // its link has ended
	}
	if a.waits--; a.waits == 0 {
		delete(all, h.key)
		result := Message{Kind: Result, Lane: a.lane, Number: h.key.number, Moved: a.moved}
		if len(a.moved) > 0 {
			result.Body = a.body
		}
		l.answerCall(h.key.hub, result)
	}
}

// receiveMark takes an origin's mark: calls behind it are for the new hub.
func (c *Core) receiveMark(o Origin, m Move) {
	if m.From == c.self {
		if d := c.departures[m.ID]; d != nil {
			d.marked[o] = struct{}{}
			if d.stage < sealed {
				c.addEffect(Collect{d.move})
			}
			d.checkMarks(c)
		}
		return
	}
	if a := c.arrivals[m.ID]; a != nil {
		a.marked[o] = struct{}{}
		delete(a.unmarked, o)
		a.noteOrigin(c, o)
		return
	}
	c.respond(o.Hub, Message{Kind: Done, Move: m})
}

// receiveSettled notes that an origin resends no more calls.
func (c *Core) receiveSettled(o Origin, m Move) {
	if a := c.arrivals[m.ID]; a != nil {
		delete(a.unsettled, o)
		a.noteOrigin(c, o)
	}
}

// receiveResend delivers a call that the old hub has not taken.
func (c *Core) receiveResend(o Origin, m *Message) {
	c.addEffect(Deliver{o, m.Number, m.Body, m.Move.Connection})
	c.answerCall(o.Hub, Message{Kind: Result, Lane: m.Lane, Number: m.Number})
}
