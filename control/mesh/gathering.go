package mesh

import (
	"context"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Gathering is what other hubs answer to one call.
type Gathering struct {
	answers []*answer
	metrics *metrics
}

// answer is that of one hub.
type answer struct {
	hub      hub.ID
	patience context.Context            // done when the hub is suspect; nil: there is no link to it
	results  chan *peerv1.ForwardResult // gets one; or is closed: the outcome is unknown
}

func (a *answer) lose() { close(a.results) }

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
