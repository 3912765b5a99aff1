package moving

import (
	"sync"
	"sync/atomic"
)

// gate lets calls begin while no input of the move core is processed.
//
// Problem: a mark divides the calls of this hub. Each call is before it or behind it, on the lanes
// to both hubs of the move and at this hub itself. A call that puts itself in line for one hub,
// stops, and goes on after the mark would be on both sides.
//
// Outline: many calls may be inside the gate at once. The shell closes the gate for an input and
// all its effects: it waits until the calls inside have left, and further calls wait. While no move
// concerns this hub, calls take no notice of the core. While one does, a call is an input of the
// core.
//
// A call inside waits for nothing, so the gate is closed within the time of a fan-out. This is no
// sync.RWMutex: tests with a clock of their own can see that a goroutine waits for a sync.Cond.
type gate struct {
	inside   atomic.Int64  // calls inside, and those that find the gate closed just now
	isClosed atomic.Bool   // changes under mu
	moving   atomic.Bool   // a move concerns this hub; changes while the gate is closed
	calls    atomic.Uint64 // calls of this hub so far
	// periods counts the times at which a move began to concern this hub, and dials are the links
	// that this hub has dialled. Both change while the gate is closed.
	periods, dials atomic.Uint64

	mu      sync.Mutex // a leaf
	changed *sync.Cond // of mu: the gate has opened, or the last call has left, or queued is 0
	// queued is the number of calls that wait for the gate to open. They enter before it is closed
	// again: inputs that follow each other closely must not keep calls out.
	queued int
}

func newGate() (g *gate) {
	g = &gate{}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// EnterCall lets a call begin. If it returns true, no move concerns this hub until LeaveCall: the
// caller finds the hubs, puts the call in line for them, and does this hub's part. It must not wait
// meanwhile. A goroutine that has entered must not enter again. If it returns false, the call is an
// input of the core, and the caller does not call LeaveCall.
func (g *gate) EnterCall() bool {
	if g.inside.Add(1); g.isClosed.Load() {
		g.LeaveCall()
		g.enterWhenOpen()
	}
	if g.moving.Load() {
		g.LeaveCall()
		return false
	}
	return true
}

// LeaveCall lets a call leave that has entered.
func (g *gate) LeaveCall() {
	if g.inside.Add(-1) == 0 && g.isClosed.Load() {
		g.mu.Lock()
		g.changed.Broadcast()
		g.mu.Unlock()
	}
}

// enterWhenOpen waits until the gate opens, and counts a call as inside.
func (g *gate) enterWhenOpen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queued++
	for g.isClosed.Load() {
		g.changed.Wait()
	}
	g.inside.Add(1)
	if g.queued--; g.queued == 0 {
		g.changed.Broadcast()
	}
}

// Do calls do while the gate is closed: no call is inside, and none begins. do must not enter, and
// must not call Do.
func (g *gate) Do(do func()) {
	g.mu.Lock()
	for g.isClosed.Load() || g.queued > 0 {
		g.changed.Wait()
	}
	g.isClosed.Store(true)
	for g.inside.Load() > 0 {
		g.changed.Wait()
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.isClosed.Store(false)
		g.changed.Broadcast()
		g.mu.Unlock()
	}()
	do()
}

// NumberCall returns the number of a call that has entered, among the calls of this hub.
func (g *gate) NumberCall() uint64 { return g.calls.Add(1) }

// Period returns the number of the period without moves that a call has entered in. A call that
// finds no room in line at once must come into line in the same period.
func (g *gate) Period() uint64 { return g.periods.Load() }

// Dials returns the number of links that this hub has dialled so far.
func (g *gate) Dials() uint64 { return g.dials.Load() }
