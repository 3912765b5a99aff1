package mesh

import (
	"context"
	"sync"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Gathering is what other hubs answer to one call.
type Gathering struct {
	answers []*answer
	slow    []slowLane // where there was no room; until Insist
	metrics *metrics
}

// answer is that of one hub.
type answer struct {
	hub      hub.ID
	patience context.Context            // done when the hub is suspect; nil: there is no link to it
	results  chan *peerv1.ForwardResult // gets one; or is closed: the outcome is unknown
}

func (a *answer) lose() { close(a.results) }

// slowLane is a call that is not in line yet.
type slowLane struct {
	lane *lane
	call *forwarding
}

// Insist waits until the call is in line everywhere, and returns the hubs where that can't be: no result comes there for
// 500 ms, the peer is suspect, or ctx is done. It is called once, before Wait, also when ctx is done.
func (g *Gathering) Insist(ctx context.Context) (lost []hub.ID) {
	in := make([]bool, len(g.slow))
	var wg sync.WaitGroup
	for i, s := range g.slow {
		wg.Go(func() { in[i] = s.lane.insist(ctx, s.call) })
	}
	wg.Wait()
	for i, s := range g.slow {
		if !in[i] {
			lost = append(lost, s.lane.link.hub)
		}
	}
	g.slow = nil
	return lost
}

// Outcome is what became of a call at one hub.
type Outcome struct {
	Hub    hub.ID
	Result *peerv1.ForwardResult // nil: it is unknown
}

// Wait returns the outcomes, in the order of the destinations, when all are known or can't be known, or ctx is done; what
// is not known then is unknown. It is called once.
func (g *Gathering) Wait(ctx context.Context) []Outcome {
	outcomes := make([]Outcome, len(g.answers))
	for i, a := range g.answers {
		outcomes[i] = Outcome{a.hub, a.wait(ctx)}
		if outcomes[i].Result == nil {
			g.metrics.unknown.Inc()
		}
	}
	return outcomes
}

func (a *answer) wait(ctx context.Context) *peerv1.ForwardResult {
	select {
	case r := <-a.results:
		return r
	default:
	}
	if a.patience == nil {
		return nil
	}
	select {
	case r := <-a.results:
		return r
	case <-a.patience.Done():
		return nil
	case <-ctx.Done():
		return nil
	}
}
