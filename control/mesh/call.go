package mesh

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Call is one call of a backend on its way to other hubs.
type Call struct {
	Caller string    // its authenticated name
	Began  time.Time // when this hub accepted it
	// Since is the version of the protocol that brought the call: older hubs do not get it.
	// 0: every hub gets it.
	Since uint32
	// Forward says what is called; sequence, caller and age are filled in for each hub. It must not change any more.
	Forward *peerv1.Forward

	size int
}

// newForward returns the message for one hub.
func (c *Call) newForward(sequence uint64, now time.Time) *peerv1.Forward {
	var f struct { // in one piece of memory
		forward peerv1.Forward
		age     durationpb.Duration
	}
	age := now.Sub(c.Began)
	f.age.Seconds, f.age.Nanos = int64(age/time.Second), int32(age%time.Second)
	f.forward.Sequence, f.forward.Caller, f.forward.Age, f.forward.Call = sequence, c.Caller,
		&f.age, c.Forward.Call
	return &f.forward
}

// Forward puts a call in line for hubs that Route has found, and returns their outcomes to come. It does not wait: where a
// peer is slower than its callers, Gathering.Insist does, which is to be called too. Calls of one caller, each made when Insist
// has returned for the one before, reach each hub in that order.
func (m *Mesh) Forward(c *Call, to []Destination) *Gathering {
	c.size = proto.Size(c.Forward)
	g := newGathering(to, m.metrics)
	number, kind := LaneOf(c.Caller, m.config.Lanes), kindOf(c.Forward)
	for i, d := range to {
		a := &g.answers[i]
		l := m.findLink(d)
		if l == nil || !l.knowsCall(c) {
			a.setUnknown()
			continue
		}
		lane, f := l.lanes[number], &forwarding{call: c, kind: kind, flood: d.Flood, into: a}
		if !lane.tryEnqueue(f) {
			g.slow = append(g.slow, slowLane{lane, f})
		}
	}
	return g
}

// findLink returns the link to a destination, or nil when it is over.
func (m *Mesh) findLink(d Destination) *outLink {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if l := m.out[d.Hub]; l != nil && l.epoch == d.Epoch && l.ctx.Err() == nil {
		return l
	}
	return nil
}
