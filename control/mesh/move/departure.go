package move

import (
	"cmp"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// stage is how far a move is at the old hub.
type stage uint8

const (
	freezing stage = iota // the client's present command is not done
	offered               // the new hub has no shadow yet, as far as the old hub knows
	marking               // the origins put their marks
	sealed                // the new hub has, or may have, the last changes: the owner is in doubt
	gone                  // the new hub owns the connection
)

// departure is a move that has begun at this hub.
type departure struct {
	move     Move
	stage    stage
	deadline time.Duration
	// marked are the origins whose marks have come: their later calls are for the new hub.
	marked map[Origin]struct{}
	// held are the calls that are not for this hub unless the move fails.
	held heldCalls
	// isLossy says that a held call was dropped, so the connection can't go on here any more.
	isLossy bool
	// isComplete says that all links at the new hub know of the move. This hub still waits for the
	// marks of its own links: calls on them may be from before the seal at the new hub.
	isComplete bool
	late       map[Origin]struct{} // these marks
	// ended is how the connection was closed since Last.
	ended any
}

// StartMove begins a move to a peer. It reports false if that can't be now: a move of the
// connection is under way or not complete, or there is no link to the peer.
func (c *Core) StartMove(
	now time.Duration, connection hub.ConnectionID, to hub.ID,
) ([]Effect, bool) {
	c.startCall(now)
	if _, linked := c.out[to]; !linked || c.isBusy(connection) {
		return c.takeEffects(), false
	}
	c.beginMove(connection, to)
	return c.takeEffects(), true
}

// transfers are the moves that a hub has a part in, as the old hub or as the new hub.
type transfers struct {
	departures departures
	arrivals   map[ID]*arrival
}

// HasMoves reports whether a connection is on its way from this hub or to it. A move counts until
// this hub may forget it.
func (t *transfers) HasMoves() bool { return len(t.departures)+len(t.arrivals) > 0 }

// IsUndecided reports whether a move is under way that the new hub has not committed, as far as
// this hub knows. Then each origin with a link must put marks: the new hub leaves its calls out
// until it does.
func (t *transfers) IsUndecided() bool {
	for _, d := range t.departures {
		if d.stage != gone {
			return true
		}
	}
	for _, a := range t.arrivals {
		if !a.isCommitted {
			return true
		}
	}
	return false
}

// isBusy reports whether a connection can't begin a move.
func (t *transfers) isBusy(connection hub.ConnectionID) bool {
	if t.departures.findConnection(connection) != nil {
		return true
	}
	for _, a := range t.arrivals {
		if a.move.Connection == connection && !a.isComplete() {
			return true
		}
	}
	return false
}

// departures are the moves that have begun at a hub.
type departures map[ID]*departure

// findConnection returns the move of a connection that this hub still owns, or may own, or nil.
func (all departures) findConnection(connection hub.ConnectionID) *departure {
	for _, d := range all {
		if d.move.Connection == connection && d.stage != gone {
			return d
		}
	}
	return nil
}

func (c *Core) beginMove(connection hub.ConnectionID, to hub.ID) {
	c.begun++
	d := &departure{
		move:     Move{ID: ID{c.self, c.begun}, Connection: connection, To: to},
		deadline: c.now + FreezeTime, marked: map[Origin]struct{}{},
	}
	c.departures[d.move.ID] = d
	c.addEffect(Freeze{d.move})
}

// HandleFrozen takes the result of Freeze: the epoch of the connection at the new hub, and the
// snapshot.
func (c *Core) HandleFrozen(now time.Duration, id ID, epoch uint32, snapshot any) []Effect {
	c.startCall(now)
	d := c.departures[id]
	if d == nil || d.stage != freezing {
		return c.takeEffects()
	}
	d.move.Epoch = epoch
	d.stage, d.deadline = offered, c.now+MarkTime
	c.request(d.move.To, Message{Kind: Offer, Move: d.move, Body: snapshot})
	return c.takeEffects()
}

// HandleChanges takes the result of Collect.
func (c *Core) HandleChanges(now time.Duration, id ID, changes any) []Effect {
	c.startCall(now)
	if d := c.departures[id]; d != nil && d.stage < sealed {
		c.request(d.move.To, Message{Kind: Changes, Move: d.move, Body: changes})
	}
	return c.takeEffects()
}

// HandleSealed takes the result of Seal. From now on this hub never owns the connection again
// unless the new hub says that it never takes it.
func (c *Core) HandleSealed(now time.Duration, id ID, changes any) []Effect {
	c.startCall(now)
	if d := c.departures[id]; d != nil && d.stage < sealed {
		d.stage, d.deadline = sealed, c.now+c.doubtTime
		c.request(d.move.To, Message{
			Kind: Last, Move: d.move, Body: changes, Marked: sortedOrigins(d.marked),
		})
	}
	return c.takeEffects()
}

// HandleReleased takes the result of Release. ended is nil if the connection was not closed.
func (c *Core) HandleReleased(now time.Duration, id ID, ended any) []Effect {
	c.startCall(now)
	if d := c.departures[id]; d != nil && d.stage == gone {
		d.ended = ended
		c.request(d.move.To, Message{Kind: Released, Move: d.move, Body: ended})
	}
	return c.takeEffects()
}

// HandleFailure notes that an effect on a connection has failed, and the move with it. isFinal says
// that the connection does not exist any more.
func (c *Core) HandleFailure(now time.Duration, id ID, isFinal bool) []Effect {
	c.startCall(now)
	if d := c.departures[id]; d != nil && d.stage < sealed {
		d.abortMove(c, isFinal)
	} else if a := c.arrivals[id]; a != nil && !a.isCommitted {
		a.abandonMove(c)
	}
	return c.takeEffects()
}

// checkMarks seals a connection when all origins have marked their lanes.
func (d *departure) checkMarks(c *Core) {
	if d.stage != marking && !d.isComplete {
		return
	}
	for _, o := range c.origins() {
		if _, marked := d.marked[o]; !marked && (!d.isComplete || d.isLate(o)) {
			return
		}
	}
	if d.isComplete {
		delete(c.departures, d.move.ID)
	} else {
		d.sealConnection(c)
	}
}

func (d *departure) isLate(o Origin) bool {
	_, late := d.late[o]
	return late
}

// sealConnection orders the last step of this hub. Origins without a mark are cut: from now on
// their calls wait here, and are answered with the move.
func (d *departure) sealConnection(c *Core) {
	d.deadline = never
	c.addEffect(Seal{d.move})
}

// hearNewHub takes the word of the new hub.
func (d *departure) hearNewHub(c *Core, m *Message) {
	switch {
	case m.Kind == Shadowed && d.stage == offered:
		d.stage, d.deadline = marking, c.now+MarkTime
		d.checkMarks(c)
	case m.Kind == Never && d.stage == sealed && d.isLossy:
		d.loseMove(c)
	case m.Kind == Never && d.stage <= sealed:
		d.abortMove(c, false)
	case m.Kind == Never: // this hub has let go: the connection is lost
		d.loseMove(c)
	case m.Kind == Adopted && d.stage == sealed:
		d.releaseConnection(c)
	case m.Kind == Adopted && d.stage == gone:
		c.request(d.move.To, Message{Kind: Released, Move: d.move, Body: d.ended})
	}
	if m.Kind == Adopted && m.Complete {
		d.completeMove(c)
	}
}

// completeMove notes that the new hub needs no more marks. Links of this hub without a mark get the
// news here: the news of the new hub may be lost with their links there.
func (d *departure) completeMove(c *Core) {
	c.request(d.move.To, Message{Kind: Over, Move: d.move})
	if d.isComplete {
		return
	}
	d.isComplete, d.late = true, map[Origin]struct{}{}
	for _, o := range c.origins() {
		if _, marked := d.marked[o]; !marked {
			d.late[o] = struct{}{}
		}
	}
	for _, o := range sortedOrigins(d.late) {
		c.respond(o.Hub, Message{Kind: Announce, Move: d.move})
	}
	d.checkMarks(c)
}

// releaseConnection lets go of a connection that the new hub owns.
func (d *departure) releaseConnection(c *Core) {
	d.stage, d.deadline = gone, never
	c.addEffect(Release{Move: d.move})
	d.dropHeld(c)
	d.sendTakerOn(c)
}

// letGo gives up a connection that has been in doubt for too long. The new hub may own it, so it
// never goes on here, and counts as the new hub's from now on. If the new hub has not taken it, it
// is lost. This hub goes on to answer calls with the move, until the new hub has answered.
func (d *departure) letGo(c *Core) {
	d.stage, d.deadline = gone, never
	c.addEffect(Release{Move: d.move, IsInDoubt: true})
	d.dropHeld(c)
	d.sendTakerOn(c)
}

// isCutOff reports whether the connection is in doubt, and the new hub can't be asked.
func (d *departure) isCutOff(c *Core) bool {
	_, linked := c.out[d.move.To]
	return d.stage == sealed && !linked
}

// loseNewHub notes that the link to the new hub has ended. A move that can fail yet fails. A client
// need not wait for a connection in doubt: the next link may be long in coming.
func (d *departure) loseNewHub(c *Core) {
	if d.stage < sealed {
		d.abortMove(c, false)
	} else if d.stage == sealed {
		c.wanted.refuseTaker(c.links, d.move.Connection)
	}
}

// askOutcome asks the new hub on a new link for the outcome of a move.
func (d *departure) askOutcome(c *Core) {
	if d.stage >= sealed && !d.isComplete {
		c.request(d.move.To, Message{Kind: Query, Move: d.move})
	}
}

// abortMove ends a move that has failed. The connection goes on here, with the calls that were held
// for it.
func (d *departure) abortMove(c *Core, isFinal bool) {
	delete(c.departures, d.move.ID)
	c.addEffect(Thaw{d.move})
	for _, h := range d.held.takeAll(&c.holdings) {
		c.answers.deliverHeld(c.links, d.move.Connection, h)
	}
	if d.stage == freezing {
		c.respond(d.move.To, Message{
			Kind: Refused, Move: Move{Connection: d.move.Connection}, IsFinal: isFinal,
		})
	} else if d.stage < sealed {
		c.request(d.move.To, Message{Kind: Abort, Move: d.move})
	}
	c.serveTaker(d.move.Connection)
}

// loseMove ends a move to a hub that is dead, or that does not take the connection when it can't go
// on here either. A connection that was in doubt is closed: the new hub may have sent messages to
// the client, whose sequence ids this hub would use again.
func (d *departure) loseMove(c *Core) {
	if d.stage < sealed {
		d.abortMove(c, false)
		return
	}
	delete(c.departures, d.move.ID)
	if d.stage == sealed {
		c.addEffect(Release{Move: d.move, IsLost: true})
	}
	for _, h := range d.held.takeAll(&c.holdings) {
		c.answers.finishHeld(c.links, h)
	}
	c.serveTaker(d.move.Connection)
}

// dropHeld ends the wait of the calls that the new hub owns. The origins of those without a mark
// look whether the new hub has taken them.
func (d *departure) dropHeld(c *Core) {
	for _, h := range d.held.takeAll(&c.holdings) {
		if a := c.answers[h.key]; a != nil && h.isUnmarked {
			a.moved = append(a.moved, d.move)
		}
		c.answers.finishHeld(c.links, h)
	}
}

func sortedOrigins(set map[Origin]struct{}) []Origin {
	all := make([]Origin, 0, len(set))
	for o := range set {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Origin) int {
		return cmp.Or(cmp.Compare(a.Hub, b.Hub), cmp.Compare(a.Lane, b.Lane))
	})
	return all
}
