package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// never is an index behind all events.
const never = math.MaxInt

// model is a history, by connection and by send. Numbers are indexes of events.
type model struct {
	history History
	moves   Moves
	sends   map[int]*send
	ordered []*send // by the begin of the first attempt
	conns   map[string]*connection
	listed  []*connection // in the order of their appearance
	dials   map[int]*dial // by link
	ending  map[string]int
	killing map[string]int // part of ending
	gone    map[string]int
}

// send is a message with all attempts to send it.
type send struct {
	number   int
	caller   int
	target   Target
	attempts []attempt

	publisher string // connection of the client that has published it; empty: it is of a backend
	confirmed int    // the client has the ack; never: it has none
}

// attempt is a call, or a part of a stream.
type attempt struct {
	begun   int
	ended   int // never: no answer has come
	stream  int
	hub     string
	outcome Outcome
	receipt Receipt
}

// begun returns the begin of the first attempt.
func (s *send) begun() int { return s.attempts[0].begun }

// last returns the attempt whose answer counts.
func (s *send) last() *attempt { return &s.attempts[len(s.attempts)-1] }

// isStreamed reports whether a send was sent on a stream, and not again.
func (s *send) isStreamed() bool { return s.last().stream > 0 && len(s.attempts) == 1 }

// source is a caller, and the only hub that it has called for a send.
type source struct {
	caller int
	hub    string
}

// source returns the source of a send. ok is false if its attempts went through several hubs.
func (s *send) source() (of source, ok bool) {
	of = source{s.caller, s.attempts[0].hub}
	for _, a := range s.attempts {
		if a.hub != of.hub {
			return source{}, false
		}
	}
	return of, true
}

// connection is a connection with its messages.
type connection struct {
	id         string
	client     int
	begun      int             // its handshake begins
	known      int             // its client knows it
	back       int             // its latest link was connected
	hubs       map[string]bool // where it was born and where it was resumed
	tried      map[string]bool // the same, and where its client tried to resume it
	arrivals   []arrival       // all, also repeated ones
	got        map[int]int     // by send: index of the first arrival
	firsts     []*send         // in the order of the first arrivals
	aliveUntil int             // it certainly exists until then
	groups     map[string]*membership
	kickBegun  int // never: none
	kicked     int // by a clean call; never: none
	toldOver   int // by the event of a hub; never: none
	closed     int // by the hub, with a close frame; never: it was not
}

// arrival is a message that came.
type arrival struct {
	index    int
	link     int
	sequence int64
	send     *send
}

// dial is a handshake.
type dial struct {
	begun     int
	client    int
	hub       string
	resumes   bool
	connected bool
}

// Moves says which moves of connections between hubs are promised.
type Moves int

const (
	// NoMoves: a client that comes back to a different hub begins anew.
	NoMoves Moves = iota
	// Takes: a client can have its connection at any hub. A hub that stops takes its connections
	// with it.
	Takes
	// Drains: as Takes, and a hub that stops moves its connections away first.
	Drains
)

// newModel reads a history.
func newModel(h History, moves Moves) *model {
	m := &model{
		history: h, moves: moves,
		sends: map[int]*send{}, conns: map[string]*connection{}, dials: map[int]*dial{},
		ending: map[string]int{}, killing: map[string]int{}, gone: map[string]int{},
	}
	for i, e := range h.Events {
		m.readEvent(i, e)
	}
	slices.SortFunc(m.ordered, func(a, b *send) int { return cmp.Compare(a.begun(), b.begun()) })
	return m
}

func (m *model) readEvent(i int, e Event) {
	switch e.Kind {
	case Sent, Answered:
		m.readCall(i, e)
	case Dialled:
		m.readDial(i, e)
	case Connected:
		m.readConnected(i, e)
	case Arrived:
		m.readArrival(i, e)
	case Published, Confirmed:
		m.readPublish(i, e)
	case Lost:
		if c := m.conns[e.Connection]; e.Code > 0 {
			c.closed = min(c.closed, i)
		}
	case Joining, Joined, Leaving, Left:
		m.readMembership(i, e)
	case Kicking, Kicked:
		m.readKick(i, e)
	case Disconnected:
		if c := m.conns[e.Connection]; c != nil {
			c.toldOver = min(c.toldOver, i)
		}
	case Stopping, Killing, Gone:
		m.readEnd(i, e)
	case Failed, Refused, Struck, Mended:
	}
}

func (m *model) readKick(i int, e Event) {
	c := m.conns[e.Connection]
	if e.Kind == Kicking {
		c.kickBegun = min(c.kickBegun, i)
	} else if e.Outcome == Succeeded && !m.leavesOut(e.Receipt, c) {
		c.kicked = min(c.kicked, i)
	}
}

// readEnd reads of the end of a hub.
func (m *model) readEnd(i int, e Event) {
	if e.Kind == Gone {
		keepFirst(m.gone, e.Hub, i)
		return
	}
	keepFirst(m.ending, e.Hub, i)
	if e.Kind == Killing {
		keepFirst(m.killing, e.Hub, i)
	}
}

func keepFirst(indexes map[string]int, hub string, i int) {
	if _, ok := indexes[hub]; !ok {
		indexes[hub] = i
	}
}

// isBefore reports whether an event about a hub came before an index.
func isBefore(indexes map[string]int, hub string, i int) bool {
	first, ok := indexes[hub]
	return ok && first < i
}

func (m *model) readCall(i int, e Event) {
	s := m.sends[e.Send]
	if e.Kind == Answered {
		a := s.last()
		a.ended, a.outcome, a.receipt = i, e.Outcome, e.Receipt
		return
	}
	if s == nil {
		s = &send{number: e.Send, caller: e.Caller, target: e.Target, confirmed: never}
		m.sends[e.Send] = s
		m.ordered = append(m.ordered, s)
	}
	s.attempts = append(s.attempts, attempt{
		begun: i, ended: never, stream: e.Stream, hub: e.Hub,
	})
}

// readPublish reads a client's message. No receipt tells of it, so its outcome stays unknown.
func (m *model) readPublish(i int, e Event) {
	s := m.sends[e.Send]
	if e.Kind == Confirmed {
		s.confirmed = min(s.confirmed, i)
		return
	}
	if s == nil {
		s = &send{
			number: e.Send, caller: -1, target: e.Target, publisher: e.Connection, confirmed: never,
		}
		m.sends[e.Send] = s
		m.ordered = append(m.ordered, s)
	}
	s.attempts = append(s.attempts, attempt{begun: i, ended: never})
}

func (m *model) readDial(i int, e Event) {
	m.dials[e.Link] = &dial{begun: i, client: e.Client, hub: e.Hub, resumes: e.Connection != ""}
	if c := m.conns[e.Connection]; c != nil {
		c.tried[e.Hub] = true
	}
}

func (m *model) readConnected(i int, e Event) {
	d := m.dials[e.Link]
	d.connected = true
	c := m.conns[e.Connection]
	if c == nil {
		c = &connection{
			id: e.Connection, client: e.Client, begun: d.begun, known: i,
			hubs: map[string]bool{HubOf(e.Connection): true}, tried: map[string]bool{d.hub: true},
			got: map[int]int{}, aliveUntil: -1,
			groups: map[string]*membership{}, kickBegun: never, kicked: never, closed: never,
			toldOver: never,
		}
		m.conns[e.Connection] = c
		m.listed = append(m.listed, c)
	}
	c.hubs[d.hub], c.back = true, i
}

// mayRepeat reports whether a connection may get a send again: hubs remember request ids, and the
// ids don't move with a connection. So a retry may reach a connection that has moved since.
func (m *model) mayRepeat(s *send, c *connection) bool {
	return m.moves != NoMoves && s.publisher == "" && len(s.attempts) > 1 && c.back > s.begun()
}

func (m *model) readArrival(i int, e Event) {
	s, c := m.sends[e.Send], m.conns[e.Connection]
	if s == nil || c == nil {
		panic(fmt.Sprintf("the history does not explain event %d: %v", i, e))
	}
	c.arrivals = append(c.arrivals, arrival{index: i, link: e.Link, sequence: e.Sequence, send: s})
	if _, ok := c.got[s.number]; !ok {
		c.got[s.number] = i
		c.firsts = append(c.firsts, s)
	}
	c.aliveUntil = max(c.aliveUntil, s.begun())
}

// isClean reports whether a send has succeeded, and its receipt counts the connection.
func (m *model) isClean(s *send, c *connection) bool {
	a := s.last()
	return a.outcome == Succeeded && !m.leavesOut(a.receipt, c)
}

// leavesOut reports whether a receipt may leave out the connection, because its hub was
// unreachable. A connection that moves may be at any hub.
func (m *model) leavesOut(r Receipt, c *connection) bool {
	return slices.ContainsFunc(r.Unreachable, func(hub string) bool {
		return m.moves != NoMoves || c.hubs[hub]
	})
}

// matchesSurely reports whether a connection certainly matched a target from an index to another.
func (m *model) matchesSurely(c *connection, t Target, from, to int) bool {
	if c.known > from || to > c.aliveUntil {
		return false
	}
	if t.Group == "" || slices.Contains(m.history.Clients[c.client].Groups, t.Group) {
		return m.isNamedBy(c, t)
	}
	return c.groups[t.Group].isSure(from, to)
}

// mayMatch reports whether a connection may have matched a target at some time from an index to
// another.
func (m *model) mayMatch(c *connection, t Target, from, to int) bool {
	if c.begun > to || c.kicked < from || m.isGone(c, from) {
		return false
	}
	return m.isNamedBy(c, t) || t.Group != "" && c.groups[t.Group].mayBe(from, to)
}

// isGone reports whether all hubs that may have the connection have ended before an index.
func (m *model) isGone(c *connection, at int) bool {
	if m.moves != NoMoves {
		return false
	}
	for hub := range c.hubs {
		if !isBefore(m.gone, hub, at) {
			return false
		}
	}
	return true
}

// mayHaveEnded reports whether a connection that moves may have ended with its hub before an index.
// It goes where its client tries to resume it. With Drains, a hub that stops moves it anywhere, and
// only a hub that was killed ends connections.
func (m *model) mayHaveEnded(c *connection, at int) bool {
	isAnywhere := false
	for hub := range c.tried {
		isAnywhere = isAnywhere || isBefore(m.ending, hub, at)
	}
	if m.moves == Takes {
		return isAnywhere
	}
	for hub, killed := range m.killing {
		if killed < at && (isAnywhere || c.tried[hub]) {
			return true
		}
	}
	return false
}

// isNamedBy reports whether a target names the connection, its user or a group of its token.
func (m *model) isNamedBy(c *connection, t Target) bool {
	client := m.history.Clients[c.client]
	return t.Everyone || t.Connection == c.id || t.User != "" && t.User == client.User ||
		t.Group != "" && slices.Contains(client.Groups, t.Group)
}
