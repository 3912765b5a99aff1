package move

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// arrival is a move to this hub.
type arrival struct {
	move Move
	// isCommitted says that this hub owns, or has owned, the connection. Before that it has a
	// shadow.
	isCommitted bool
	// isForgotten says that the old hub has forgotten the move, or is dead.
	isForgotten bool
	// isTold says that the old hub was told that the move is complete.
	isTold bool
	// marked are the origins whose marks have come.
	marked map[Origin]struct{}
	// unmarked are, after the commit, the origins whose marks have not come: their calls
	// still belong to the old hub.
	unmarked map[Origin]struct{}
	// unsettled are, after the commit, the origins that the old hub has cut: calls behind the mark
	// wait until those before it have been resent.
	unsettled map[Origin]struct{}
	held      heldCalls
}

// isComplete reports whether this hub has the connection, and all origins know it.
func (a *arrival) isComplete() bool {
	return a.isCommitted && len(a.unmarked) == 0 && len(a.unsettled) == 0
}

// adoptMove begins a move to this hub. The connection may have been here, and in doubt since: the
// higher epoch tells that it had moved.
func (c *Core) adoptMove(m *Message) {
	if c.arrivals[m.Move.ID] != nil {
		return // a correct hub offers once
	}
	if d := c.departures.findConnection(m.Move.Connection); d != nil {
		if d.stage != sealed || m.Move.Epoch <= d.move.Epoch {
			c.respond(m.Move.From, Message{Kind: Never, Move: m.Move})
			return
		}
		d.releaseConnection(c)
	}
	a := &arrival{
		move: m.Move, marked: map[Origin]struct{}{},
		unmarked: map[Origin]struct{}{}, unsettled: map[Origin]struct{}{},
	}
	c.arrivals[m.Move.ID] = a
	c.addEffect(Adopt{m.Move, m.Body})
}

// HandleAdopted takes the result of Adopt: the shadow is there. The shell has told the peers this
// hub's interest in it, so their calls behind the marks come here.
func (c *Core) HandleAdopted(now time.Duration, id ID) []Effect {
	c.startCall(now)
	if a := c.arrivals[id]; a != nil && !a.isCommitted {
		c.respond(a.move.From, Message{Kind: Shadowed, Move: a.move})
		c.respondToAll(Message{Kind: Announce, Move: a.move})
	}
	return c.takeEffects()
}

// applyChanges carries changes of the old hub out at the shadow.
func (c *Core) applyChanges(m *Message) {
	a := c.arrivals[m.Move.ID]
	switch {
	case a != nil && !a.isCommitted:
		if m.Kind == Last {
			a.cutOrigins(c.origins(), m.Marked)
		}
		c.addEffect(Apply{m.Move, m.Body, m.Kind == Last})
	case a == nil && m.Kind == Last:
		c.respond(m.Move.From, Message{Kind: Never, Move: m.Move})
	}
}

// cutOrigins notes the origins that this hub must still hear of after the commit. The old hub had
// the marks of marked. A link that comes about after the commit needs no mark: a call on it is
// later than the seal, so the old hub does not take it.
func (a *arrival) cutOrigins(linked, marked []Origin) {
	for _, o := range linked {
		if _, has := a.marked[o]; !has {
			a.unmarked[o] = struct{}{}
		}
		if !slices.Contains(marked, o) {
			a.unsettled[o] = struct{}{}
		}
	}
}

// HandleApplied takes the result of the last Apply: the shadow is as the connection was. This hub
// decides here that it is the owner.
func (c *Core) HandleApplied(now time.Duration, id ID) []Effect {
	c.startCall(now)
	a := c.arrivals[id]
	if a == nil || a.isCommitted {
		return c.takeEffects()
	}
	a.isCommitted = true
	c.addEffect(Commit{a.move})
	c.respond(a.move.From, Message{Kind: Adopted, Move: a.move})
	for _, o := range c.origins() {
		a.noteOrigin(c, o)
	}
	if _, waits := c.takes[a.move.Connection]; waits {
		delete(c.takes, a.move.Connection)
		c.rests.addRest(c.now, a.move.Connection)
		c.addEffect(Taken{a.move.Connection})
	}
	return c.takeEffects()
}

// releaseHeld delivers the held calls of the origins that are settled.
func (a *arrival) releaseHeld(c *Core) {
	for _, h := range a.held.takeAll(&c.holdings) {
		if _, waits := a.unsettled[h.from]; waits {
			a.held.add(&c.holdings, h)
		} else {
			c.answers.deliverHeld(c.links, a.move.Connection, h)
		}
	}
}

// noteOrigin goes on after an arrival has heard of an origin, or is committed.
func (a *arrival) noteOrigin(c *Core, o Origin) {
	if !a.isCommitted {
		return
	}
	_, unmarked := a.unmarked[o]
	_, unsettled := a.unsettled[o]
	switch {
	case unmarked:
	case unsettled:
		c.respond(o.Hub, Message{Kind: Settle, Move: a.move})
	case !a.needsHub(o.Hub):
		c.respond(o.Hub, Message{Kind: Done, Move: a.move})
	}
	a.releaseHeld(c)
	if a.isComplete() && !a.isTold {
		a.isTold = true
		c.respond(a.move.From, Message{Kind: Adopted, Move: a.move, Complete: true})
		a.finishMove(c)
	}
}

// needsHub reports whether this hub must hear more of an origin's lanes.
func (a *arrival) needsHub(peer hub.ID) bool {
	for _, set := range []map[Origin]struct{}{a.unmarked, a.unsettled} {
		for o := range set {
			if o.Hub == peer {
				return true
			}
		}
	}
	return false
}

// forgetOrigins notes that a peer's link has ended: calls from before its mark come no more.
func (a *arrival) forgetOrigins(c *Core, peer hub.ID) {
	for _, o := range c.lanesOf(peer) {
		delete(a.unmarked, o)
		delete(a.unsettled, o)
		a.noteOrigin(c, o)
	}
}

// finishMove forgets a move that is complete, and that the old hub has forgotten. Until then
// this hub can say that it has adopted the connection, also if the connection has ended since.
func (a *arrival) finishMove(c *Core) {
	if !a.isComplete() {
		return
	}
	if a.isForgotten {
		delete(c.arrivals, a.move.ID)
	}
	c.serveTaker(a.move.Connection)
}

// hearOldHub takes the word of the old hub.
func (c *Core) hearOldHub(m *Message) {
	a := c.arrivals[m.Move.ID]
	switch {
	case a == nil && m.Kind == Query:
		c.respond(m.Move.From, Message{Kind: Never, Move: m.Move})
	case a == nil:
	case !a.isCommitted: // the old hub has aborted the move, or asks on a later link
		a.abandonMove(c)
	case m.Kind == Query:
		c.respond(m.Move.From, Message{Kind: Adopted, Move: a.move, Complete: a.isComplete()})
	case m.Kind == Released && m.Body != nil:
		c.addEffect(Close{a.move, m.Body})
		c.departures.passEndOn(c, a.move.Connection, m.Body)
	case m.Kind == Over:
		a.isForgotten = true
		a.finishMove(c)
	}
}

// passEndOn tells the next hub of a connection, if it has moved on already, how it was closed.
func (all departures) passEndOn(c *Core, connection hub.ConnectionID, how any) {
	for _, id := range sortedIDs(all) {
		d := all[id]
		if d.move.Connection == connection && d.stage == gone && d.ended == nil {
			d.ended = how
			c.request(d.move.To, Message{Kind: Released, Move: d.move, Body: how})
		}
	}
}

// abandonMove ends a move that this hub never takes. The old hub delivers the calls that were held:
// it has them too.
func (a *arrival) abandonMove(c *Core) {
	delete(c.arrivals, a.move.ID)
	c.addEffect(Abandon{a.move})
	c.respond(a.move.From, Message{Kind: Never, Move: a.move})
	for _, h := range a.held.takeAll(&c.holdings) {
		c.answers.finishHeld(c.links, h)
	}
	c.respondToAll(Message{Kind: Done, Move: a.move})
	if _, waits := c.takes[a.move.Connection]; waits {
		c.refuseClient(a.move.Connection, false)
	}
	c.serveTaker(a.move.Connection)
}
