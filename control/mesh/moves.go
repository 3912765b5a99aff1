package mesh

import (
	"context"
	"slices"
	"time"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/control/mesh/wire"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/waitlist"
)

// Moves are the moves of connections to and from this hub, and the calls meanwhile. Package moving
// carries them out. Moves has its links, and the answers to calls that the move core knows. A nil
// *Moves has no moves. It is safe for concurrent use.
type Moves struct {
	mesh  *Mesh         // static
	shell *moving.Shell // static

	// own are calls of this hub to itself that wait for clients. news holds a token when one may
	// have its result.
	own  *waitlist.List[ownCall]
	news chan struct{}

	// They change within Shell.Do.
	linked   map[hub.ID]*outLink
	accepted map[hub.ID]*inLink
	calls    map[uint64]*knownCall
}

// ownCall is this hub's part of a call of its own.
type ownCall struct {
	moving.Execution
	into *hubAnswer
}

// knownCall is a call of this hub that the move core knows.
type knownCall struct {
	call    *Call // nil: the core has come to know it while it was under way
	kind    string
	answers map[hub.ID]*hubAnswer
	// partial are the answers of hubs that have not carried the call out for all connections. The
	// rest comes when the call was sent again.
	partial map[*hubAnswer]*peerv1.ForwardResult
}

func newMoves(m *Mesh) *Moves {
	s := &Moves{
		mesh: m, news: make(chan struct{}, 1),
		linked: map[hub.ID]*outLink{}, accepted: map[hub.ID]*inLink{},
		calls: map[uint64]*knownCall{},
	}
	s.own = waitlist.New[ownCall](func() { leaveToken(s.news) })
	s.shell = moving.New(moving.Config{
		Self: m.config.Self, Lanes: m.config.Lanes, Links: moveLinks{s}, Now: m.coreTime,
		Logger: m.logger,
	})
	return s
}

// Clients is what a hub knows of all clients, and needs for those that move to it.
type Clients = moving.Clients

// Enable lets connections of h move. It is called once, before Run.
func (m *Moves) Enable(h *hub.Hub, c Clients) { m.shell.Enable(h, c) }

// runMoves does the work of the shell, and answers this hub's calls to itself, until ctx is done.
func (m *Moves) runMoves(ctx context.Context) {
	defer m.own.End()
	m.mesh.tasks.Go(func() { m.shell.Run(ctx) })
	for {
		select {
		case <-m.news:
			for _, c := range m.own.TakeArrived() {
				c.into.setResult(c.Result())
			}
		case <-ctx.Done():
			return
		}
	}
}

// EnterCall lets a call begin. If it returns true, no move concerns this hub until LeaveCall: the
// caller asks Mesh.RouteFor, calls Mesh.Forward, and does this hub's part. It must not wait
// meanwhile, and calls LeaveCall soon. If it returns false, the caller calls Forward in place of
// all that, and not LeaveCall.
func (m *Moves) EnterCall() bool { return m == nil || m.shell.EnterCall() }

// LeaveCall ends what EnterCall has begun.
func (m *Moves) LeaveCall() {
	if m != nil {
		m.shell.LeaveCall()
	}
}

// Take fetches a client's connection that a different hub holds: see moving.Shell.Take.
func (m *Moves) Take(
	ctx context.Context, namespace string, id hub.ConnectionID, token string,
) error {
	return m.shell.Take(ctx, namespace, id, token)
}

// Away is an order to move connections to peers.
type Away = moving.Away

// Room is the room of a peer for connections that move to it.
type Room = moving.Room

// MoveAway moves connections to linked peers that do not leave: see moving.Shell.MoveAway.
func (m *Moves) MoveAway(ctx context.Context, a Away) int { return m.shell.MoveAway(ctx, a) }

// AwaitMoves waits until no move needs this hub any more: see moving.Shell.AwaitMoves.
func (m *Moves) AwaitMoves(ctx context.Context) error { return m.shell.AwaitMoves(ctx) }

// Forward begins a call to t while moves concern this hub. This hub is a destination, too: its
// part is carried out as that of a peer. Gathering.Insist has nothing to do.
func (m *Moves) Forward(c *Call, namespace string, t *hub.Target) (g *Gathering, route Route) {
	c.size = wire.SizeForward(c.Forward)
	kind, self := KindOf(c.Forward), m.mesh.config.Self
	m.shell.Do(func() {
		route = m.mesh.RouteFor(namespace, t)
		route.Unreachable = slices.Clone(route.Unreachable)
		var to []hub.ID
		for _, d := range route.To {
			if l := m.linked[d.Hub]; l != nil && l.epoch == d.Epoch && l.knowsCall(c) {
				to = append(to, d.Hub)
			} else {
				route.Unreachable = append(route.Unreachable, d.Hub)
			}
		}
		body := &moving.Body{Forward: new(peerForward).fill(c, 0, time.Now()), Call: c}
		lane := core.LaneOf(c.Caller, m.mesh.config.Lanes)
		x := m.shell.StartCall(lane, to, body, func(number uint64, to []hub.ID) {
			destinations := []Destination{{Hub: self}}
			for _, peer := range to {
				destinations = append(destinations, Destination{Hub: peer})
			}
			g = newGathering(destinations, m.mesh.metrics)
			k := newKnownCall(c, kind)
			for i, d := range destinations {
				k.answers[d.Hub] = &g.answers[i]
			}
			m.calls[number] = k
		})
		m.awaitOwn(ownCall{x, &g.answers[0]})
	})
	return g, route
}

func newKnownCall(c *Call, kind string) *knownCall {
	return &knownCall{
		call: c, kind: kind, answers: map[hub.ID]*hubAnswer{},
		partial: map[*hubAnswer]*peerv1.ForwardResult{},
	}
}

// awaitOwn sets the answer of this hub to its own call, when it is due.
func (m *Moves) awaitOwn(c ownCall) {
	if c.Awaited == nil {
		c.into.setResult(c.Result())
		return
	}
	m.own.Add(c, c.Until, c.Awaited.Then)
}

// executeCall carries out a call of a peer while moves concern this hub, or which is sent again.
func (m *Moves) executeCall(
	from hub.ID, lane int, f *peerv1.Forward, burst *hub.Burst,
) (x moving.Execution) {
	number := f.GetSequence()*maxLanes + uint64(lane) //nolint:gosec // below maxLanes
	m.shell.Do(func() { x = m.shell.ReceiveCall(from, lane, number, f, burst) })
	return x
}

// takeResult processes the answer of a peer to a call that the move core knows, or must know now.
func (m *Moves) takeResult(l *lane, f *forwarding, r *peerv1.ForwardResult) {
	m.shell.Do(func() {
		if len(r.GetMoved()) > 0 {
			m.shell.AddCalls()
		}
		if !l.forget(f) { // the lane has ended
			f.into.setUnknown()
			return
		}
		if k := m.calls[f.number]; k != nil {
			m.addResult(k, f.into, r)
		} else {
			f.into.setResult(r)
		}
		var body *moving.Body
		if returned := r.GetReturned(); returned != nil {
			body = &moving.Body{Forward: returned}
		}
		result := moving.Result(l.number, f.number, r, body)
		m.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			return c.HandleResponse(now, l.link.hub, result)
		})
	})
}

func (m *Moves) addResult(k *knownCall, into *hubAnswer, r *peerv1.ForwardResult) {
	before, waits := k.partial[into]
	switch {
	case waits:
		k.partial[into] = m.shell.Merge(before, r)
	case len(r.GetMoved()) > 0:
		k.partial[into] = r
	default:
		into.setResult(r)
	}
}

// link runs report, which tells the mesh's core of the end or the begin of a link. No call begins
// meanwhile, so the marks of moves are the first on a new link.
func (m *Moves) link(l *outLink, report func() bool) (linked bool) {
	m.shell.Do(func() {
		if linked = report(); !linked {
			return
		}
		if before := m.linked[l.hub]; before != nil { // the end of it is on its way
			m.loseLink(before)
		}
		m.linked[l.hub] = l
		m.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			return c.HandleLinked(now, l.hub)
		})
	})
	return linked
}

// unlink tells the move core that a link to a peer has ended, and then calls report.
func (m *Moves) unlink(l *outLink, report func()) {
	m.shell.Do(func() {
		if m.linked[l.hub] == l {
			m.loseLink(l)
		}
		report()
	})
}

func (m *Moves) loseLink(l *outLink) {
	delete(m.linked, l.hub)
	m.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
		return c.HandleLinkLoss(now, l.hub)
	})
}

// accept tells the move core of a link that a peer has dialled. It returns false if the peer takes
// no part in moves, and a move is under way: then the link must be refused.
func (m *Moves) accept(l *inLink) bool {
	m.shell.Do(func() {
		m.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			if l.isAccepted = l.takesPart() || !c.IsUndecided(); !l.isAccepted {
				return nil
			}
			m.accepted[l.key.hub] = l
			return c.HandleAccepted(now, l.key.hub, l.takesPart())
		})
	})
	return l.isAccepted
}

// endAccepted tells the move core that a link of a peer has ended: nothing more comes from it.
func (m *Moves) endAccepted(l *inLink) {
	if !l.isAccepted {
		return // so the end of a refused link waits for no call
	}
	m.shell.Do(func() {
		delete(m.accepted, l.key.hub)
		m.shell.ForgetCalls(l.key.hub)
		m.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			return c.HandleLinkEnd(now, l.key.hub)
		})
	})
}
