package mesh

import (
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub"
)

// callGate lets calls begin while no input of the move core is processed.
//
// Problem: a mark divides the calls of this hub. Each call is before it or behind it, on the lanes
// to both hubs of the move and at this hub itself. A call that puts itself in line for one hub,
// stops, and goes on after the mark would be on both sides.
//
// Outline: each call begins under the gate's read lock. The shell of the move core holds the write
// lock for an input and all its effects. While no move concerns this hub, calls take no notice of
// the core. While one does, a call is an input of the core.
//
// Nothing may wait for a client, a peer or a join while it holds the gate. The gate comes before
// all other locks: a goroutine that holds the lock of a link or of a connection must not take it.
type callGate struct {
	sync.RWMutex

	moving atomic.Bool // a move concerns this hub; changes under the write lock
	// marks counts the times at which this hub has put marks, for calls without room at once.
	// Guarded by the lock.
	marks uint64
}

// Moves are the moves of connections to and from this hub, and the calls meanwhile. A nil *Moves
// has none. It is safe for concurrent use.
type Moves struct {
	mesh *Mesh // static
	gate callGate
}

// EnterCall lets a call begin. If it returns true, no move concerns this hub until LeaveCall: the
// caller asks Mesh.RouteFor, calls Mesh.Forward, and does this hub's part. It must not wait
// meanwhile, and calls LeaveCall soon. If it returns false, the caller calls Forward in place of
// all that, and not LeaveCall.
func (m *Moves) EnterCall() bool {
	if m == nil {
		return true
	}
	m.gate.RLock()
	if m.gate.moving.Load() {
		m.gate.RUnlock()
		return false
	}
	return true
}

// LeaveCall ends what EnterCall has begun.
func (m *Moves) LeaveCall() {
	if m != nil {
		m.gate.RUnlock()
	}
}

// Forward begins a call to t while moves concern this hub. This hub is a destination, too: its
// part is carried out as that of a peer. Gathering.Insist has nothing to do.
func (m *Moves) Forward(c *Call, namespace string, t *hub.Target) (*Gathering, Route) {
	panic("no move can be under way")
}
