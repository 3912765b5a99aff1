package move

import (
	"time"

	"github.com/connhub/connhub/hub"
)

// take is a client of this hub that waits for its connection, which a different hub holds.
type take struct {
	proof    any    // of the client's right to the connection; the shell's
	at       hub.ID // the hub that was asked, or sends the connection
	hops     int
	deadline time.Duration
	// asked are the hubs that were asked. isSearch says that a hub has named a dead hub: then all
	// peers are asked in turn.
	asked    map[hub.ID]struct{}
	isSearch bool
}

// taker is a hub with a client that waits for its connection.
type taker struct {
	hub   hub.ID
	proof any
}

// takers are the latest takers that wait, each for a connection.
type takers map[hub.ConnectionID]taker

// Standing tells where a connection is, for which a client has come.
type Standing struct {
	// IsHere says that the hub owns the connection, and the client's token is valid.
	IsHere bool
	// IsProven says that the hub has the connection, in any stage of a move, and the client's token
	// is valid.
	IsProven bool
	// At is the hub that the tombstone names; empty: there is none. Without both the client can't
	// have the connection back.
	At hub.ID
	// IsBusy says that the hub has not looked, because too many clients wait. The client may ask
	// again.
	IsBusy bool
}

// StartTake asks at a hub for a connection whose client has come to this hub. at is where the
// connection was born, or that of a tombstone here. proof goes to the holder (Look). StartTake does
// nothing while a take of the connection is under way.
func (c *Core) StartTake(
	now time.Duration, connection hub.ConnectionID, at hub.ID, proof any,
) []Effect {
	c.startCall(now)
	if _, waits := c.takes[connection]; !waits {
		c.takes[connection] = &take{
			proof: proof, deadline: c.now + TakeTime, asked: map[hub.ID]struct{}{},
		}
		c.askHolder(connection, at)
	}
	return c.takeEffects()
}

// askHolder asks a hub for the connection that a client waits for. There is nothing to ask if the
// connection is on its way.
func (c *Core) askHolder(connection hub.ConnectionID, at hub.ID) {
	t := c.takes[connection]
	for _, a := range c.arrivals {
		if a.move.Connection == connection && !a.isCommitted {
			t.at = a.move.From
			return
		}
	}
	_, linked := c.out[at]
	t.isSearch = t.isSearch || c.dead.hasHub(at)
	isLost := t.hops >= maxHops
	switch {
	case linked && !isLost:
		t.hops++
	case t.isSearch:
		if at = t.nextPeer(c.links); at == "" {
			delete(c.takes, connection)
			c.addEffect(Refuse{Connection: connection, IsFinal: !isLost, IsSearched: true})
			return
		}
	default:
		c.refuseClient(connection, at == c.self) // it was here, and has ended
		return
	}
	t.at, t.asked[at] = at, struct{}{}
	c.request(at, Message{Kind: Take, Move: Move{Connection: connection}, Body: t.proof})
}

// nextPeer returns the peer to ask next in a search, or "" if all were asked.
func (t *take) nextPeer(l *links) hub.ID {
	for _, peer := range sortedKeys(l.out) {
		if _, asked := t.asked[peer]; !asked {
			return peer
		}
	}
	return ""
}

// refuseClient ends the wait of a client.
func (c *Core) refuseClient(connection hub.ConnectionID, isFinal bool) {
	delete(c.takes, connection)
	c.addEffect(Refuse{Connection: connection, IsFinal: isFinal})
}

// hearHolder takes the answer of a hub that was asked for a connection.
func (c *Core) hearHolder(from hub.ID, m *Message) {
	connection := m.Move.Connection
	t := c.takes[connection]
	switch {
	case t == nil || t.at != from:
	case m.Kind == Refused && m.IsFinal && t.isSearch:
		c.askHolder(connection, "")
	case m.Kind == Refused:
		c.refuseClient(connection, m.IsFinal)
	default:
		c.askHolder(connection, m.Hub)
	}
}

// HandleStanding takes the result of Look.
func (c *Core) HandleStanding(now time.Duration, look Look, s Standing) []Effect {
	c.startCall(now)
	connection, by := look.Connection, look.For
	named := Move{Connection: connection}
	d := c.departures.findConnection(connection)
	isBusy := c.isBusy(connection)
	switch {
	case s.IsBusy, d != nil && d.isCutOff(c):
		c.respond(by, Message{Kind: Refused, Move: named})
	case isBusy && !s.IsProven && (d == nil || d.stage < sealed): // this hub has the latest token
		c.respond(by, Message{Kind: Refused, Move: named, IsFinal: true})
	case d != nil && d.move.To == by: // it is on its way there
	case isBusy, s.IsHere && c.rests.isResting(c.now, connection):
		c.wanted.addTaker(c.links, connection, taker{by, look.Proof}, s.IsProven)
	case s.IsHere:
		c.moveToTaker(connection, by)
	case s.At != "":
		c.respond(by, Message{Kind: Elsewhere, Move: named, Hub: s.At})
	default:
		c.respond(by, Message{Kind: Refused, Move: named, IsFinal: true})
	}
	return c.takeEffects()
}

func (c *Core) moveToTaker(connection hub.ConnectionID, to hub.ID) {
	if _, linked := c.out[to]; !linked {
		c.respond(to, Message{Kind: Refused, Move: Move{Connection: connection}})
		return
	}
	c.beginMove(connection, to)
}

// serveTaker lets the latest taker look again, now that the connection can move again, or is gone.
func (c *Core) serveTaker(connection hub.ConnectionID) {
	if t, waits := c.wanted[connection]; waits && !c.isBusy(connection) &&
		!c.rests.isResting(c.now, connection) {
		delete(c.wanted, connection)
		c.addEffect(Look{connection, t.hub, t.proof})
	}
}

// addTaker has a taker wait. The taker before it is refused, unless the later client may be a
// stranger: it has not the token that was valid at the seal.
func (all takers) addTaker(l *links, connection hub.ConnectionID, t taker, isProven bool) {
	before, waits := all[connection]
	refused := Message{Kind: Refused, Move: Move{Connection: connection}}
	switch isDifferent := waits && before.hub != t.hub; {
	case isDifferent && !isProven:
		l.respond(t.hub, refused)
		return
	case isDifferent:
		l.respond(before.hub, refused)
	}
	all[connection] = t
}

// refuseTaker ends the wait of the latest taker of a connection. Its client may ask again.
func (all takers) refuseTaker(l *links, connection hub.ConnectionID) {
	if t, waits := all[connection]; waits {
		delete(all, connection)
		l.respond(t.hub, Message{Kind: Refused, Move: Move{Connection: connection}})
	}
}

// sendTakerOn sends the latest taker to the new hub of the connection.
func (d *departure) sendTakerOn(c *Core) {
	m := d.move
	if t, waits := c.wanted[m.Connection]; waits {
		delete(c.wanted, m.Connection)
		c.respond(t.hub, Message{
			Kind: Elsewhere, Move: Move{Connection: m.Connection}, Hub: m.To,
		})
	}
}
