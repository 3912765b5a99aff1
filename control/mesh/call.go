package mesh

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/wire"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Call is a backend's call on its way to peers.
type Call struct {
	Caller string    // the authenticated name of the backend
	Began  time.Time // when this hub accepted the call
	// Since is the protocol version that brought the call: peers with an older version do not get
	// it. 0: every peer gets it.
	Since uint32
	// Forward says which call it is. The mesh fills in sequence, caller and age for each peer. The
	// caller of Mesh.Forward must not change the message any more.
	Forward *peerv1.Forward

	size int
}

// peerForward is the message of a call for a single peer, in a single allocation.
type peerForward struct {
	forward peerv1.Forward
	age     durationpb.Duration
}

// fill fills p, which is empty, for c.
func (p *peerForward) fill(c *Call, sequence uint64, now time.Time) *peerv1.Forward {
	age := now.Sub(c.Began)
	p.age.Seconds, p.age.Nanos = int64(age/time.Second), int32(age%time.Second)
	f := &p.forward
	f.Sequence, f.Caller, f.Age, f.Call = sequence, c.Caller, &p.age, c.Forward.Call
	return f
}

// Forward puts a call in line for the hubs that Route has found. It returns a Gathering, which
// collects their outcomes.
//
// The caller has entered (Moves.EnterCall). Forward does not wait. If a peer is slower than its
// callers, Gathering.Insist waits for room: the caller must call Insist too. The calls of a caller
// reach each hub in order if the caller begins each after Insist has returned for the call before.
func (m *Mesh) Forward(c *Call, to []Destination) *Gathering {
	c.size = wire.SizeForward(c.Forward)
	g := newGathering(to, m.metrics)
	lane, kind := core.LaneOf(c.Caller, m.config.Lanes), KindOf(c.Forward)
	number, dials := m.Moves.shell.NumberCall(), m.Moves.shell.Dials()
	g.period = m.Moves.shell.Period()
	for i, d := range to {
		a := &g.answers[i]
		l := m.findLink(d)
		if l == nil || !l.knowsCall(c) {
			a.setUnknown()
			continue
		}
		lane, f := l.lanes[lane], &a.forwarding
		*f = forwarding{
			call: c, kind: kind, flood: d.Flood, into: a, number: number, dials: dials,
		}
		if !lane.tryEnqueue(f) {
			g.slow = append(g.slow, slowLane{lane, f})
		}
	}
	return g
}

// findLink returns the link to d, or nil if that link has ended.
func (m *Mesh) findLink(d Destination) *outLink {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if l := m.out[d.Hub]; l != nil && l.epoch == d.Epoch && l.ctx.Err() == nil {
		return l
	}
	return nil
}
