package fleet

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// reportEvery is the time between two reports of a drain or a rebalance.
	reportEvery = 500 * time.Millisecond
	// drainPatience is how long a peer that drains may be unreachable while a call follows it. It
	// is above the time of a new link, and below that of a peer that is taken for dead (15 s):
	// a peer that is no member any more within it has said farewell.
	drainPatience = 5 * time.Second
)

// Drainer is the drain of the hub of this process. Its methods are safe for concurrent use.
type Drainer interface {
	// Begin begins the drain. It does nothing if the drain has begun.
	Begin()
	// Progress returns how far the drain is. It must have begun.
	Progress() DrainProgress
}

// DrainProgress is how far a drain is.
type DrainProgress struct {
	Phase       DrainPhase    // of the drain
	Connections int           // that the hub holds
	Moved       int           // connections that the drain has moved to other hubs
	Closed      int           // connections that the drain has closed
	TimeLeft    time.Duration // until the last close, at most
}

// DrainPhase is a phase of a drain, in the order of their values. The zero value is before it.
type DrainPhase uint8

const (
	// DrainDelay: the hub is unready, and serves as before.
	DrainDelay DrainPhase = iota + 1
	// DrainClosing: the hub refuses new clients and calls, and moves and closes clients.
	DrainClosing
	// DrainDone: the moves are over, and the closes are sent.
	DrainDone
)

// newDrainResponse describes the progress of a drain.
func newDrainResponse(p DrainProgress) *controlv1.DrainHubResponse {
	return &controlv1.DrainHubResponse{
		Phase:       controlv1.DrainPhase(p.Phase), // a test holds that the values are the same
		Connections: int64(p.Connections), Moved: int64(p.Moved), Closed: int64(p.Closed),
		TimeLeft: durationpb.New(p.TimeLeft),
	}
}

// AnswerDrain carries out a peer's call to drain this hub.
func AnswerDrain(d Drainer) *peerv1.ForwardResult {
	d.Begin()
	return &peerv1.ForwardResult{
		Result: &peerv1.ForwardResult_Drain{Drain: newDrainResponse(d.Progress())},
	}
}

// DrainHub implements the RPC.
func (s *Service) DrainHub(
	r *controlv1.DrainHubRequest, stream grpc.ServerStreamingServer[controlv1.DrainHubResponse],
) error {
	if s.Drain == nil {
		return failure.ErrUnknownMethod
	}
	ask := func(context.Context) (*controlv1.DrainHubResponse, error) {
		s.Drain.Begin()
		return newDrainResponse(s.Drain.Progress()), nil
	}
	if id := hub.ID(r.GetHubId()); id != s.Self {
		ask = (&peerDrain{call: s.CallPeer, hub: id}).askProgress
	}
	return sendReports(stream, ask, func(r *controlv1.DrainHubResponse) bool {
		return r.GetPhase() == controlv1.DrainPhase_DRAIN_PHASE_DRAINED
	})
}

// sendReports sends reports of something that goes on, at once and then every reportEvery, until
// the last.
func sendReports[R any](
	stream grpc.ServerStreamingServer[R], ask func(context.Context) (*R, error),
	isLast func(*R) bool,
) error {
	ctx := stream.Context()
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		report, err := ask(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(report); err != nil || isLast(report) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// peerDrain follows the drain of a peer. It belongs to the goroutine of its call.
type peerDrain struct {
	call  CallPeer
	hub   hub.ID
	last  *controlv1.DrainHubResponse // nil: the peer has not answered yet
	heard time.Time                   // when it came
}

// askProgress begins the drain, or does nothing if it has begun, and returns the progress.
func (p *peerDrain) askProgress(ctx context.Context) (*controlv1.DrainHubResponse, error) {
	result, err := p.call(ctx, p.hub, &peerv1.Forward{
		Call: &peerv1.Forward_Drain{Drain: &peerv1.ForwardDrain{}},
	})
	switch {
	case err == nil:
		p.last, p.heard = result.GetDrain(), time.Now()
	case p.last == nil || ctx.Err() != nil:
		return nil, err
	case errors.Is(err, failure.ErrHubNotFound): // it has said farewell
		return &controlv1.DrainHubResponse{
			Phase:    controlv1.DrainPhase_DRAIN_PHASE_DRAINED,
			Moved:    p.last.GetMoved(),
			Closed:   p.last.GetClosed(),
			TimeLeft: &durationpb.Duration{},
		}, nil
	case !errors.Is(err, failure.ErrHubsUnreachable) || time.Since(p.heard) > drainPatience:
		return nil, err
	}
	return p.last, nil
}
