package mesh

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Gathering is what other hubs answer to one call.
type Gathering struct {
	answers []hubAnswer
	single  [1]hubAnswer // the answers of most
	slow    []slowLane   // where there was no room; until Insist
	metrics *metrics

	open atomic.Int32 // answers that are not known, and one for Then
	then func()
}

// answer is that of one hub.
type hubAnswer struct {
	gathering *Gathering
	hub       hub.ID
	result    atomic.Pointer[peerv1.ForwardResult] // nil: not known yet
}

// lost is the result of a call whose outcome won't be known.
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

// setResult takes the hub's result. The first one counts: when nobody waits for it any more it may still come.
func (a *hubAnswer) setResult(r *peerv1.ForwardResult) {
	if a.result.CompareAndSwap(nil, r) {
		a.gathering.countDown()
	}
}

// setUnknown: the outcome is unknown. That is also so when the hub is suspect: nobody waits for its result.
func (a *hubAnswer) setUnknown() { a.setResult(unknownResult) }

// countDown takes one away from what is open.
func (g *Gathering) countDown() {
	if g.open.Add(-1) == 0 {
		g.then()
	}
}

// Then has done called when all outcomes are known, or can't be known: at once, or in the goroutine that finds out. That
// may be one that reads a lane: done must be quick and not wait. It is called once, behind Insist, instead of Wait, or not at all.
func (g *Gathering) Then(done func()) {
	g.then = done
	g.countDown()
}

// slowLane is a call that is not in line yet.
type slowLane struct {
	lane *lane
	call *forwarding
}

// Insisting reports whether Insist has something to wait for.
func (g *Gathering) Insisting() bool { return len(g.slow) > 0 }

// Insist waits until the call is in line everywhere, and returns the hubs where that can't be: no result comes there for
// 500 ms, the peer is suspect, or ctx is done. It is called once, before Wait, also when ctx is done.
func (g *Gathering) Insist(ctx context.Context) (left []hub.ID) {
	if len(g.slow) == 0 {
		return nil
	}
	in := make([]bool, len(g.slow))
	var wg sync.WaitGroup
	for i, s := range g.slow {
		wg.Go(func() { in[i] = s.lane.enqueueWhenRoom(ctx, s.call) })
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

// Outcome is what became of a call at one hub.
type Outcome struct {
	Hub    hub.ID
	Result *peerv1.ForwardResult // nil: it is unknown
}

// Wait returns the outcomes when all are known or can't be known, or ctx is done. It is called once.
func (g *Gathering) Wait(ctx context.Context) []Outcome {
	done := make(chan struct{})
	g.Then(func() { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
	}
	return g.Outcomes()
}

// NotDone returns how many hubs have not said by now that they have carried out the call: they have failed, or nothing is known.
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

// Outcomes returns the outcomes, in the order of the destinations; what is not known now is unknown. It is called once.
func (g *Gathering) Outcomes() []Outcome {
	outcomes := make([]Outcome, len(g.answers))
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
