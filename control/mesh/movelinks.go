package mesh

import (
	"slices"
	"time"

	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/control/mesh/wire"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// moveLinks are the links of a hub, as package moving needs them.
type moveLinks struct{ *Moves }

var _ moving.Links = moveLinks{}

// Request implements moving.Links. A peer of an older version has no Move stream, and gets none.
func (m moveLinks) Request(peer hub.ID, message *move.Message) {
	if l := m.linked[peer]; l != nil && l.takesMoves && !l.moves.Put(message) {
		l.end(errBacklog)
	}
}

// Respond implements moving.Links, as Request does.
func (m moveLinks) Respond(peer hub.ID, message *move.Message) {
	if l := m.accepted[peer]; l != nil && l.takesMoves && !l.moves.Put(message) {
		l.end(errBacklog)
	}
}

// PutMark implements moving.Links.
func (m moveLinks) PutMark(peer hub.ID, message *move.Message) {
	l := m.linked[peer]
	if l == nil {
		return
	}
	name := moving.NameOf(message)
	r := &peerv1.DataRequest{Body: &peerv1.DataRequest_Mark{Mark: name}}
	if message.Kind == move.Settled {
		r.Body = &peerv1.DataRequest_Settled{Settled: name}
	}
	l.lanes[message.Lane].enqueueMark(r)
}

// PutCall implements moving.Links.
func (m moveLinks) PutCall(peer hub.ID, message *move.Message) bool {
	l, k := m.linked[peer], m.Moves.calls[message.Number]
	if l == nil || k == nil {
		return false
	}
	body, _ := message.Body.(*moving.Body)
	f := &forwarding{call: k.call, kind: k.kind, number: message.Number, known: true}
	if message.Kind == move.Call {
		f.into = k.answers[peer]
	} else {
		f.into, f.resend = k.answers[message.Move.From], moving.NameOf(message)
	}
	if f.call == nil {
		f.call = callAgain(body.Forward)
	}
	if f.into == nil { // nobody waits for it
		f.into = &newGathering([]Destination{{Hub: peer}}, m.mesh.metrics).answers[0]
	}
	return l.lanes[message.Lane].tryEnqueue(f)
}

// callAgain returns a call that a peer has given back.
func callAgain(f *peerv1.Forward) *Call {
	return &Call{
		Caller: f.GetCaller(), Began: time.Now().Add(-f.GetAge().AsDuration()), Forward: f,
		size: wire.SizeForward(f),
	}
}

// HangUp implements moving.Links.
func (m moveLinks) HangUp(peer hub.ID) {
	if l := m.linked[peer]; l != nil {
		l.end(errBacklog)
	}
}

// Fence implements moving.Links.
func (m moveLinks) Fence(peer hub.ID) {
	if l := m.accepted[peer]; l != nil {
		l.end(errBacklog)
	}
}

// EachWaitingCall implements moving.Links.
func (m moveLinks) EachWaitingCall(add func(number uint64, lane int, dials uint64, peer hub.ID)) {
	for peer, l := range m.linked {
		for _, lane := range l.lanes {
			lane.eachUnknown(func(f *forwarding) {
				f.known = true
				k := m.Moves.calls[f.number]
				if k == nil {
					k = newKnownCall(nil, f.kind)
					m.Moves.calls[f.number] = k
				}
				k.answers[peer] = f.into
				add(f.number, lane.number, f.dials, peer)
			})
		}
	}
}

// Finish implements moving.Links.
func (m moveLinks) Finish(number uint64, unknown []hub.ID) {
	k := m.Moves.calls[number]
	if k == nil {
		return
	}
	delete(m.Moves.calls, number)
	if len(unknown) == 0 {
		for into, r := range k.partial {
			into.setResult(r)
		}
	}
	for peer, into := range k.answers {
		if peer != m.mesh.config.Self { // its own part may wait for clients
			into.setUnknown() // unless the answer is set
		}
	}
}

// Holder implements moving.Links. A tombstone says best where a connection went, then the interest
// of peers, then its id. The interest may be out of date. A peer that is asked as the last resort
// may know nothing.
func (m moveLinks) Holder(namespace string, id hub.ConnectionID) (at hub.ID, isSure bool) {
	if !m.CanMove() {
		return "", true
	}
	stone, hasMovedOn := m.shell.Tombstone(id)
	if hasMovedOn && m.linked[hub.ID(stone.Hub)] != nil {
		return hub.ID(stone.Hub), true
	}
	_, born, err := hub.ParseConnectionID(string(id))
	if err != nil {
		return "", true
	}
	route := m.mesh.RouteFor(namespace, &hub.Target{Connections: []string{string(id)}})
	for _, d := range route.To {
		if !d.Flood && d.Hub != born {
			return d.Hub, false // it has interest in the connection itself
		}
	}
	if m.linked[born] != nil {
		return born, !hasMovedOn // born may name this hub, where the connection is no more
	}
	if len(route.To) > 0 { // it may know, or be the holder
		return route.To[0].Hub, false
	}
	return "", len(route.Unreachable) == 0
}

// CanMove implements moving.Links.
func (m moveLinks) CanMove() (can bool) {
	can = true
	for _, l := range m.linked {
		can = can && l.takesMoves
	}
	for _, l := range m.accepted {
		can = can && l.takesPart()
	}
	return can
}

// takesPart reports whether the peer can mark its lanes for a move.
func (l *inLink) takesPart() bool { return l.takesMoves && int(l.most) == l.mesh.config.Lanes }

// IsWhole implements moving.Links.
func (m moveLinks) IsWhole() bool {
	isNotLinked := func(p PeerInfo) bool { return p.State != PeerLinked }
	return !slices.ContainsFunc(m.mesh.Peers(), isNotLinked)
}

// ThenInForce implements moving.Links.
func (m moveLinks) ThenInForce(keys []hub.Key, done func(error)) (forget func()) {
	return m.mesh.ThenInForce(keys, done)
}

// eachUnknown calls do with each call that has no result and that the move core does not know, in
// their order. It holds the lock of the lane.
func (l *lane) eachUnknown(do func(f *forwarding)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*forwarding
	for _, f := range l.waiting {
		if !f.known {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *forwarding) int { return int(a.sequence) - int(b.sequence) })
	for _, f := range all {
		do(f)
	}
}
