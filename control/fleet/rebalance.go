package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// slackShare is the divisor of the mean that gives the surplus with which a hub is not full.
	// Without slack, clients that come and go would be moved with each rebalance.
	slackShare = 10
	// mostQuotas is the most hubs that get connections of a hub, and maxID the most bytes of an id
	// (forward.proto).
	mostQuotas, maxID = 1024, 64
)

// Rebalancer moves connections of the hub of this process to other hubs, to balance them. It is
// safe for concurrent use.
type Rebalancer interface {
	// Rebalance begins to move connections, as many as the quotas say to each hub. It begins
	// nothing without quotas, while such moves are under way, or if the latest had this id. It
	// returns the progress of the latest, and hub.ErrShuttingDown if the hub drains.
	Rebalance(id string, quotas map[hub.ID]int) (RebalanceProgress, error)
}

// RebalanceProgress is how far the latest rebalance of a hub is.
type RebalanceProgress struct {
	ID       string // empty: there was none
	Surplus  int    // the sum of the quotas
	Moved    int    // connections that have moved
	IsMoving bool   // the moves go on
}

// AnswerRebalance carries out a peer's call to rebalance this hub.
func AnswerRebalance(b Rebalancer, f *peerv1.ForwardRebalance) (*peerv1.ForwardResult, error) {
	id := f.GetRebalance()
	if id == "" || len(id) > maxID || len(f.GetQuotas()) > mostQuotas {
		return nil, failure.ErrInvalidField
	}
	quotas := make(map[hub.ID]int, len(f.GetQuotas()))
	for _, q := range f.GetQuotas() {
		if q.GetConnections() < 0 || len(q.GetHub()) > maxID {
			return nil, failure.ErrInvalidField
		}
		quotas[hub.ID(q.GetHub())] = int(q.GetConnections())
	}
	p, err := b.Rebalance(id, quotas)
	if err != nil {
		return nil, err
	}
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Rebalance{
		Rebalance: &peerv1.RebalanceResult{
			Rebalance: p.ID, Surplus: int64(p.Surplus), Moved: int64(p.Moved), Moving: p.IsMoving,
		},
	}}, nil
}

// load is the number of connections of a hub.
type load struct {
	hub         hub.ID
	connections int
}

// planRebalance returns how many connections each full hub is to move to each hub below the mean.
func planRebalance(loads []load) map[hub.ID]map[hub.ID]int {
	total := 0
	for _, l := range loads {
		total += l.connections
	}
	plan := map[hub.ID]map[hub.ID]int{}
	if len(loads) == 0 {
		return plan
	}
	mean := total / len(loads)
	room := make([]int, len(loads)) // below the mean
	for i, l := range loads {
		room[i] = max(0, mean-l.connections)
	}
	next := 0
	for _, l := range loads {
		surplus := l.connections - mean
		if surplus <= 1 || surplus <= mean/slackShare { // 1: the mean is rounded
			continue
		}
		quotas := map[hub.ID]int{}
		for ; surplus > 0 && next < len(loads) && len(quotas) < mostQuotas; next++ {
			n := min(surplus, room[next])
			if n > 0 {
				quotas[loads[next].hub] = n
			}
			surplus, room[next] = surplus-n, room[next]-n
			if room[next] > 0 {
				break // the next full hub goes on here
			}
		}
		if len(quotas) > 0 {
			plan[l.hub] = quotas
		}
	}
	return plan
}

// RebalanceHubs implements the RPC.
func (s *Service) RebalanceHubs(
	_ *controlv1.RebalanceHubsRequest,
	stream grpc.ServerStreamingServer[controlv1.RebalanceHubsResponse],
) error {
	if s.Rebalancer == nil {
		return failure.ErrUnknownMethod
	}
	ctx := stream.Context()
	r := &rebalance{service: s, id: rand.Text(), parts: map[hub.ID]*rebalancePart{}}
	if err := r.checkSelf(); err != nil {
		return err
	}
	r.findLoads(ctx)
	next := r.begin
	return sendReports(stream, func(ctx context.Context) (*controlv1.RebalanceHubsResponse, error) {
		err := next(ctx)
		next = r.follow
		return r.newReport(), err
	}, (*controlv1.RebalanceHubsResponse).GetDone)
}

// rebalance is a call of RebalanceHubs. It belongs to the goroutine of the call.
type rebalance struct {
	service *Service
	id      string
	loads   []load // of the hubs that take part, by id
	parts   map[hub.ID]*rebalancePart
}

// rebalancePart is the part of a hub that moves connections.
type rebalancePart struct {
	id     string // of the rebalance that the call follows
	quotas map[hub.ID]int
	last   RebalanceProgress
	heard  time.Time
	isLost bool // it does not answer
}

// checkSelf returns an error if this hub drains: then a different hub must be called.
func (r *rebalance) checkSelf() error {
	_, err := r.service.Rebalancer.Rebalance(r.id, nil)
	return err
}

// findLoads finds the hubs that take part.
func (r *rebalance) findLoads(ctx context.Context) {
	for _, h := range r.service.Reader.ListHubs(ctx).GetHubs() {
		if h.GetReachable() && !h.GetSuspect() && !h.GetDraining() && h.GetStartTime() != nil {
			r.loads = append(r.loads, load{hub.ID(h.GetId()), int(h.GetConnections())})
		}
	}
	slices.SortFunc(r.loads, func(a, b load) int { return cmp.Compare(a.hub, b.hub) })
}

// begin follows the hubs that move connections already. If there are none, it has the full hubs
// begin.
func (r *rebalance) begin(ctx context.Context) error {
	asks := map[hub.ID]*rebalancePart{}
	for _, l := range r.loads {
		asks[l.hub] = &rebalancePart{id: r.id, heard: time.Now()}
	}
	if err := r.askAll(ctx, asks); err != nil {
		return err
	}
	for id, part := range asks {
		if part.last.IsMoving {
			part.id = part.last.ID
			r.parts[id] = part
		}
	}
	if len(r.parts) > 0 {
		return nil
	}
	for id, quotas := range planRebalance(r.loads) {
		r.parts[id] = &rebalancePart{id: r.id, quotas: quotas, heard: time.Now()}
	}
	if err := r.askAll(ctx, r.parts); err != nil {
		return err
	}
	for _, part := range r.parts {
		part.id = cmp.Or(part.last.ID, part.id) // of a call that has come before
	}
	return nil
}

// follow asks the hubs that move connections for their progress.
func (r *rebalance) follow(ctx context.Context) error {
	if err := r.checkSelf(); err != nil {
		return err
	}
	asks := map[hub.ID]*rebalancePart{}
	for id, part := range r.parts {
		if part.isUnderWay() {
			part.quotas = nil // they have come, or are too old
			asks[id] = part
		}
	}
	return r.askAll(ctx, asks)
}

func (p *rebalancePart) isUnderWay() bool { return p.last.IsMoving && !p.isLost }

// askAll asks hubs at once. Its error is that of ctx.
func (r *rebalance) askAll(ctx context.Context, parts map[hub.ID]*rebalancePart) error {
	var wg sync.WaitGroup
	for id, part := range parts {
		wg.Go(func() {
			p, err := r.askHub(ctx, id, part)
			switch {
			case err == nil && (part.last.ID == "" || p.ID == part.last.ID):
				part.last, part.heard = p, time.Now()
			case err == nil, // a different rebalance has followed
				errors.Is(err, failure.ErrHubNotFound), errors.Is(err, hub.ErrShuttingDown):
				part.last.IsMoving = false
			case part.last.ID == "" || time.Since(part.heard) > drainPatience:
				part.isLost = true
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// askHub calls this hub or a peer.
func (r *rebalance) askHub(
	ctx context.Context, id hub.ID, part *rebalancePart,
) (p RebalanceProgress, err error) {
	if id == r.service.Self {
		return r.service.Rebalancer.Rebalance(part.id, part.quotas)
	}
	f := &peerv1.ForwardRebalance{Rebalance: part.id}
	for to, n := range part.quotas {
		f.Quotas = append(f.Quotas, &peerv1.RebalanceQuota{Hub: string(to), Connections: int64(n)})
	}
	result, err := r.service.CallPeer(ctx, id, &peerv1.Forward{
		Call: &peerv1.Forward_Rebalance{Rebalance: f},
	})
	if err != nil {
		return p, err
	}
	a := result.GetRebalance()
	return RebalanceProgress{
		ID: a.GetRebalance(), Surplus: int(a.GetSurplus()), Moved: int(a.GetMoved()),
		IsMoving: a.GetMoving(),
	}, nil
}

// newReport describes the progress.
func (r *rebalance) newReport() *controlv1.RebalanceHubsResponse {
	report := &controlv1.RebalanceHubsResponse{Done: true}
	for _, l := range r.loads {
		part := r.parts[l.hub]
		if part == nil {
			continue
		}
		report.Done = report.GetDone() && !part.isUnderWay()
		report.Hubs = append(report.Hubs, &controlv1.HubRebalance{
			HubId: string(l.hub), Surplus: int64(part.last.Surplus),
			Moved: int64(part.last.Moved), Moving: part.isUnderWay(), Unreachable: part.isLost,
		})
	}
	return report
}
