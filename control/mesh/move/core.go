package move

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

const (
	// MarkTime is the time that the origins have for their marks, and the new hub for its shadow.
	// A lane without progress for so long ends its link anyway.
	MarkTime = 500 * time.Millisecond
	// TakeTime is the most time that a client waits for its connection: several moves, because
	// two clients may show the same token at two hubs.
	TakeTime = 5 * time.Second
	// FreezeTime is the time that a client's present command may delay a move. A client that waits
	// for the connection waits no longer.
	FreezeTime = TakeTime
	// maxHops bounds how often a client is sent on to a different hub.
	maxHops = 4

	// mostDeaths is the most hubs that are known to be dead. A message about a hub comes soon after
	// its death.
	mostDeaths = 1024

	never = time.Duration(math.MaxInt64)
)

// Config describes a hub. Every field is required.
type Config struct {
	// Self is the id of the hub.
	Self hub.ID
	// Lanes is the number of lanes of each link, the same at all hubs.
	Lanes int
	// MaxHeld is the most calls that a hub holds for a connection that moves.
	MaxHeld int
	// MaxHeldBytes is the most bytes of those calls.
	MaxHeldBytes int
	// MaxBytes is the most bytes of all calls that a hub holds. A call that waits for several
	// connections counts once.
	MaxBytes int
	// SizeOf returns the bytes that the body of a call holds.
	SizeOf func(body any) int
	// DoubtTime is the time from the seal after which the old hub lets go of the connection if the
	// new hub has not answered: as long as a connection waits for its client.
	DoubtTime time.Duration
}

// Core decides about the moves that a hub has a part in: as the old hub, as the new hub, or as an
// origin of calls. It has no goroutine, no clock and no I/O. Each input is a method call with the
// time of a monotonic clock; the returned effects are for the shell to carry out.
//
// A core is not safe for concurrent use.
type Core struct {
	*links
	origin
	transfers

	now       time.Duration
	doubtTime time.Duration
	dead      deaths

	begun uint64 // moves that this hub has begun as the old hub
	// wanted is the latest taker that waits until a connection can move again.
	wanted takers
	takes  map[hub.ConnectionID]*take // of clients of this hub
	rests  rests

	answers  answers
	holdings holdings
}

// New returns the core of a hub without links.
func New(config Config) *Core {
	l := &links{
		self: config.Self, lanes: config.Lanes,
		in: map[hub.ID]bool{}, out: map[hub.ID]uint64{},
	}
	return &Core{
		links:     l,
		origin:    origin{links: l, calls: map[uint64]*call{}, marks: map[ID]*mark{}},
		transfers: transfers{departures{}, map[ID]*arrival{}},
		doubtTime: config.DoubtTime, dead: deaths{known: map[hub.ID]struct{}{}},
		wanted: takers{}, takes: map[hub.ConnectionID]*take{},
		rests:   rests{until: map[hub.ConnectionID]time.Duration{}},
		answers: answers{}, holdings: holdings{config: config},
	}
}

// HandleLinked notes that a link which this hub dialled is ready. Nothing was sent on it yet.
func (c *Core) HandleLinked(now time.Duration, peer hub.ID) []Effect {
	c.startCall(now)
	c.dials++
	c.out[peer] = c.dials
	for _, id := range sortedIDs(c.marks) {
		c.marks[id].repeatMarks(&c.origin, peer)
	}
	for _, id := range sortedIDs(c.departures) {
		if d := c.departures[id]; d.move.To == peer {
			d.askOutcome(c)
		}
	}
	return c.takeEffects()
}

// HandleLinkLoss notes the end of a link that this hub dialled. The peer may still carry out
// requests of it.
func (c *Core) HandleLinkLoss(now time.Duration, peer hub.ID) []Effect {
	c.startCall(now)
	delete(c.out, peer)
	c.loseCalls(peer)
	for _, id := range sortedIDs(c.departures) {
		if d := c.departures[id]; d != nil && d.move.To == peer {
			d.loseNewHub(c)
		}
	}
	for _, connection := range sortedKeys(c.takes) {
		if c.takes[connection].at == peer {
			c.refuseClient(connection, false)
		}
	}
	return c.takeEffects()
}

// HandleAccepted notes that this hub has accepted a link of a peer. The link before has ended. A
// peer that does not mark its lanes takes no part in moves: its link must not be accepted while
// IsUndecided, and no move begins while it is linked.
func (c *Core) HandleAccepted(now time.Duration, peer hub.ID, marks bool) []Effect {
	c.startCall(now)
	c.in[peer] = marks
	for _, id := range sortedIDs(c.arrivals) {
		switch a := c.arrivals[id]; {
		case !a.isCommitted:
			c.respond(peer, Message{Kind: Announce, Move: a.move})
		case a.move.From == peer:
			c.respond(peer, Message{Kind: Adopted, Move: a.move, Complete: a.isComplete()})
		}
	}
	return c.takeEffects()
}

// HandleLinkEnd notes the end of a link that a peer dialled. Nothing more comes from it.
func (c *Core) HandleLinkEnd(now time.Duration, peer hub.ID) []Effect {
	c.startCall(now)
	delete(c.in, peer)
	for key := range c.answers {
		if key.hub == peer {
			delete(c.answers, key)
		}
	}
	for _, id := range sortedIDs(c.arrivals) {
		a := c.arrivals[id]
		if a.move.From == peer && !a.isCommitted {
			a.abandonMove(c)
			continue
		}
		a.forgetOrigins(c, peer)
	}
	for _, id := range sortedIDs(c.departures) {
		d := c.departures[id]
		for _, o := range c.lanesOf(peer) {
			delete(d.late, o)
		}
		d.checkMarks(c)
	}
	maps.DeleteFunc(c.wanted, func(_ hub.ConnectionID, t taker) bool { return t.hub == peer })
	return c.takeEffects()
}

// HandleDeath notes that a hub is declared dead. Its links have ended, and it never returns.
func (c *Core) HandleDeath(now time.Duration, peer hub.ID) []Effect {
	c.startCall(now)
	c.dead.addHub(peer)
	for _, id := range sortedIDs(c.departures) {
		if d := c.departures[id]; d.move.To == peer {
			d.loseMove(c)
		}
	}
	for _, id := range sortedIDs(c.arrivals) {
		if a := c.arrivals[id]; a.move.From == peer {
			a.isForgotten = true
			a.finishMove(c)
		}
	}
	maps.DeleteFunc(c.marks, func(_ ID, m *mark) bool { return m.move.To == peer })
	return c.takeEffects()
}

// HandleRequest processes a message on the link that a peer dialled.
func (c *Core) HandleRequest(now time.Duration, from hub.ID, m Message) []Effect {
	c.startCall(now)
	if _, linked := c.in[from]; linked {
		c.takeRequest(from, &m)
	}
	return c.takeEffects()
}

// HandleResponse processes a message on the link to a peer that this hub dialled.
func (c *Core) HandleResponse(now time.Duration, from hub.ID, m Message) []Effect {
	c.startCall(now)
	if _, linked := c.out[from]; linked {
		c.takeResponse(from, &m)
	}
	return c.takeEffects()
}

// HandleTick does all work that is due. The shell calls it at NextDeadline.
func (c *Core) HandleTick(now time.Duration) []Effect {
	c.startCall(now)
	for _, id := range sortedIDs(c.departures) {
		d := c.departures[id]
		switch {
		case d == nil || d.deadline > c.now:
		case d.stage == marking:
			d.sealConnection(c)
		case d.stage == sealed:
			d.letGo(c)
		default:
			d.abortMove(c, false)
		}
	}
	for _, connection := range sortedKeys(c.takes) {
		if c.takes[connection].deadline <= c.now {
			c.refuseClient(connection, false)
		}
	}
	for _, connection := range c.rests.takeEnded(c.now, c.wanted) {
		c.serveTaker(connection)
	}
	return c.takeEffects()
}

// NextDeadline returns when HandleTick next has work to do.
func (c *Core) NextDeadline() time.Duration {
	at := c.rests.nextEnd(c.wanted)
	for _, d := range c.departures {
		at = min(at, d.deadline)
	}
	for _, t := range c.takes {
		at = min(at, t.deadline)
	}
	return at
}

// IsIdle reports whether no move concerns this hub: as the old hub, the new hub, or an origin. Then
// the shell need not tell the core of calls: see SkipCalls.
func (c *Core) IsIdle() bool { return len(c.departures)+len(c.arrivals)+len(c.marks) == 0 }

func (c *Core) takeRequest(from hub.ID, m *Message) {
	switch m.Kind {
	case Offer:
		c.adoptMove(m)
	case Changes, Last:
		c.applyChanges(m)
	case Abort, Query, Released, Over:
		c.hearOldHub(m)
	case Call:
		c.receiveCall(Origin{from, m.Lane}, m)
	case Mark:
		c.receiveMark(Origin{from, m.Lane}, m.Move)
	case Resend:
		c.receiveResend(Origin{from, m.Lane}, m)
	case Settled:
		c.receiveSettled(Origin{from, m.Lane}, m.Move)
	case Take:
		c.addEffect(Look{m.Move.Connection, from, m.Body})
	default: // a kind of a later version
	}
}

func (c *Core) takeResponse(from hub.ID, m *Message) {
	switch m.Kind {
	case Shadowed, Never, Adopted:
		if d := c.departures[m.Move.ID]; d != nil {
			d.hearNewHub(c, m)
		} else if m.Kind == Adopted && m.Complete {
			c.request(from, Message{Kind: Over, Move: m.Move})
		}
	case Announce:
		if !c.dead.hasHub(m.Move.To) { // or nobody would say Done
			c.markMove(m.Move)
		}
	case Settle:
		c.askSettled(m.Move.ID)
	case Done:
		c.forgetMark(m.Move.ID)
	case Result:
		c.takeResult(from, m)
	case Refused, Elsewhere:
		c.hearHolder(from, m)
	default: // a kind of a later version
	}
}

// startCall begins every call that may change the core. The time never goes back.
func (c *Core) startCall(now time.Duration) { c.now = max(c.now, now) }

// takeEffects ends a call that startCall has begun. Messages of this hub to itself take effect
// here: in the middle of a call they would come between messages that belong together.
func (c *Core) takeEffects() []Effect {
	for len(c.own) > 0 {
		next := c.own[0]
		c.own = c.own[1:]
		if next.isRequest {
			c.takeRequest(c.self, &next.message)
		} else {
			c.takeResponse(c.self, &next.message)
		}
	}
	out := c.effects
	c.effects, c.own = nil, nil
	return out
}

// deaths are the hubs that were declared dead last.
type deaths struct {
	known map[hub.ID]struct{}
	order []hub.ID // oldest first
}

func (d *deaths) hasHub(id hub.ID) bool {
	_, isDead := d.known[id]
	return isDead
}

func (d *deaths) addHub(id hub.ID) {
	if d.hasHub(id) {
		return
	}
	d.known[id] = struct{}{}
	if d.order = append(d.order, id); len(d.order) > mostDeaths {
		delete(d.known, d.order[0])
		d.order = d.order[1:]
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// sortedIDs returns the moves of m, in order: a core is deterministic.
func sortedIDs[V any](m map[ID]V) []ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b ID) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Number, b.Number))
	})
}
