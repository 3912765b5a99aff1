package mesh

import (
	"context"
	"sync"
	"sync/atomic"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Gathering collects the answers of hubs to a single call.
type Gathering struct {
	answers []hubAnswer
	single  [1]hubAnswer // backs answers if there is a single hub
	outcome [1]Outcome   // backs the outcomes then
	slow    []slowLane   // calls that found no room; nil once Insist has returned
	period  uint64       // moving.Shell.Period of the call
	metrics *metrics

	open atomic.Int32 // unknown answers, and 1 for Then
	then func()
}

// hubAnswer is the answer of a single hub.
type hubAnswer struct {
	gathering  *Gathering
	hub        hub.ID
	forwarding forwarding                           // of the call to the hub
	result     atomic.Pointer[peerv1.ForwardResult] // nil until it is known
}

// unknownResult stands for an outcome that will stay unknown.
var unknownResult = &peerv1.ForwardResult{}

func newGathering(to []Destination, metrics *metrics) *Gathering {
	g := &Gathering{metrics: metrics}
	g.answers = g.single[:]
	if len(to) != 1 {
		g.answers = make([]hubAnswer, len(to))
	}
	for i, d := range to {
		g.answers[i].gathering, g.answers[i].hub = g, d.Hub
	}
	g.open.Store(int32(len(to)) + 1) //nolint:gosec // as many as hubs
	return g
}

// setResult sets the hub's result. The first result counts: a late result may come after the
// callers have given up.
func (a *hubAnswer) setResult(r *peerv1.ForwardResult) {
	if a.result.CompareAndSwap(nil, r) {
		a.gathering.countDown()
	}
}

// setUnknown sets the outcome to unknown. Callers of a suspect peer get that too, so that they
// don't wait for its result.
func (a *hubAnswer) setUnknown() { a.setResult(unknownResult) }

// countDown removes 1 from open. At 0 it calls then. A lane may keep g for a result that comes too
// late, so g must not keep then.
func (g *Gathering) countDown() {
	if g.open.Add(-1) == 0 {
		done := g.then
		g.then = nil
		done()
	}
}

// Then calls done when each outcome is known or will stay unknown: at once, or later in the
// goroutine that finds out. That may be the reader of a lane, so done must be quick and must not
// wait.
//
// Then is called at most once, after Insist, and not together with Wait.
func (g *Gathering) Then(done func()) {
	g.then = done
	g.countDown()
}

// Finished reports whether Then or Wait was called, and each outcome is known or will stay unknown.
// From then on no lane keeps the function that Then got. A call of it may be under way.
func (g *Gathering) Finished() bool { return g.open.Load() == 0 }

// slowLane is a call that is not in line yet.
type slowLane struct {
	lane *lane
	call *forwarding
}

// Insisting reports whether Insist has to wait for a lane.
func (g *Gathering) Insisting() bool { return len(g.slow) > 0 }

// Insist waits until the call is in line at every hub. It returns the hubs where that failed: the
// lane moved no call for 500 ms, the peer is suspect, the link ended, or ctx is done. The caller
// must call it once, before Wait, also if ctx is done.
func (g *Gathering) Insist(ctx context.Context) (left []hub.ID) {
	if len(g.slow) == 0 {
		return nil
	}
	in := make([]bool, len(g.slow))
	var wg sync.WaitGroup
	for i, s := range g.slow {
		wg.Go(func() { in[i] = s.lane.enqueueWhenRoom(ctx, s.call, g.period) })
	}
	wg.Wait()
	for i, s := range g.slow {
		if !in[i] {
			left = append(left, s.lane.link.hub)
		}
	}
	g.slow = nil
	return left
}

// Outcome is the outcome of a call at a hub.
type Outcome struct {
	// Hub is the hub that the call went to.
	Hub    hub.ID
	Result *peerv1.ForwardResult // nil: unknown
}

// Wait waits until each outcome is known or will stay unknown, or ctx is done. Then it returns the
// outcomes. It is called once.
func (g *Gathering) Wait(ctx context.Context) []Outcome {
	done := make(chan struct{})
	g.Then(func() { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
	}
	return g.Outcomes()
}

// NotDone returns for how many hubs there is no proof, so far, that they have carried out the call:
// they have failed, or nothing is known.
func (g *Gathering) NotDone() (n int) {
	for i := range g.answers {
		r := g.answers[i].result.Load()
		_, failed := r.GetResult().(*peerv1.ForwardResult_Status)
		if failed || r == nil || r == unknownResult {
			n++
		}
	}
	return n
}

// Peek returns the result of a hub if it is known now, or nil. It may be called at any time.
func (g *Gathering) Peek(id hub.ID) *peerv1.ForwardResult {
	for i := range g.answers {
		a := &g.answers[i]
		if r := a.result.Load(); a.hub == id && r != unknownResult {
			return r
		}
	}
	return nil
}

// Outcomes returns the outcomes in the order of the destinations. An outcome that is not known yet
// is unknown. It is called once.
func (g *Gathering) Outcomes() []Outcome {
	outcomes := g.outcome[:]
	if len(g.answers) != 1 {
		outcomes = make([]Outcome, len(g.answers))
	}
	for i := range g.answers {
		a := &g.answers[i]
		outcomes[i].Hub = a.hub
		if r := a.result.Load(); r != nil && r != unknownResult {
			outcomes[i].Result = r
		} else {
			g.metrics.unknown.Inc()
		}
	}
	return outcomes
}
