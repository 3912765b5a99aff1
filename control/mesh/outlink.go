package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/control/mesh/streams"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// outLink is a link that this hub dials: a Control stream, and lanes for calls. Its goroutine is
// runLink, from the dial to the end. runLink owns the goroutines of the streams and waits for them.
type outLink struct {
	// Static.
	mesh  *Mesh
	hub   hub.ID
	epoch uint64
	dial  core.Dial
	lanes []*lane
	peer  *peerConn

	// Static once the hello is answered.
	batches    bool // the peer takes calls in batches
	takesMoves bool // the peer takes part in moves

	moves *moving.StepQueue

	ctx context.Context // done when the link has ended, with the cause
	end context.CancelCauseFunc

	requests streams.Queue[*peerv1.ControlRequest]
	linked   bool // guarded by Mesh.mu

	mu        sync.Mutex
	finishing bool
	silent    context.Context // done while the peer is suspect; replaced when it answers
	silence   context.CancelFunc
	probed    [probesTimed]time.Time // when the latest probes were sent, by number
}

// queueSize is the most control messages that wait for a stream. A correct peer can be due fewer:
// 100 probes or answers in the 10 s before its link is ended, and 4 messages of interest.
const queueSize = 256

// probesTimed is more than the probes under way on a link: the link ends after 10 s without an
// answer.
const probesTimed = 128

// dialLocked starts a link. The caller must hold Mesh.mu.
func (m *Mesh) dialLocked(d core.Dial) {
	l := &outLink{
		mesh: m, hub: d.Hub, epoch: d.Hello.GetEpoch(), dial: d,
		requests: streams.NewQueue[*peerv1.ControlRequest](queueSize), moves: moving.NewStepQueue(),
	}
	l.allowWaiting()
	l.ctx, l.end = context.WithCancelCause(context.Background())
	l.lanes = make([]*lane, m.config.Lanes)
	for i := range l.lanes {
		l.lanes[i] = newLane(l, i)
	}
	m.out[d.Hub] = l
	m.tasks.Go(l.runLink)
}

// knowsCall reports whether the peer's version has the call.
func (l *outLink) knowsCall(c *Call) bool { return l.batches || c.Since < core.BatchVersion }

// queueRequest queues a message for the Control stream. If the queue is full, the link ends.
func (l *outLink) queueRequest(r *peerv1.ControlRequest) {
	if p := r.GetProbe(); p != nil {
		l.mu.Lock()
		l.probed[p.GetNumber()%probesTimed] = time.Now()
		l.mu.Unlock()
	}
	if !l.requests.Put(r) {
		l.end(errBacklog)
	}
}

// finishRequests ends the link after the queued messages. The caller holds Mesh.mu, so no message
// is queued later.
func (l *outLink) finishRequests() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.finishing {
		l.finishing = true
		l.requests.CloseInput()
	}
}

// endBroken ends the link because a stream ended with err. If this hub leaves, errClosing is the
// cause.
func (l *outLink) endBroken(err error) {
	l.mu.Lock()
	finishing := l.finishing
	l.mu.Unlock()
	if finishing {
		err = errClosing
	}
	l.end(err)
}

// runLink dials the peer and runs the link to its end.
func (l *outLink) runLink() {
	defer l.removeLink()
	defer l.stopWaiting()
	defer l.end(errHungUp)
	var err error
	if l.peer, err = newPeerConn(&l.mesh.config, l.dial.Address); err != nil {
		l.reportDialFailure(err)
		return
	}
	defer l.peer.cutWires()
	stream, hello, err := l.openControl()
	if err != nil {
		l.reportDialFailure(err)
		return
	}
	version, _ := core.CommonVersion(l.dial.Hello, hello)
	l.batches, l.takesMoves = version >= core.BatchVersion, version >= moveVersion
	if !l.mesh.Moves.link(l, func() bool { return l.reportLinked(hello) }) {
		l.reportDialFailure(errHungUp) // reportDialFailure prefers the core's cause to this error
		return
	}
	m := l.mesh
	m.logger.Info("linked", slog.String("hub", string(l.hub)), slog.String("name", hello.GetName()),
		slog.String("address", l.dial.Address), slog.Uint64("epoch", l.epoch))
	l.runStreams(stream)
	cause := context.Cause(l.ctx)
	m.metrics.countLinkEnd(cause)
	m.logger.Info("link ended", slog.String("hub", string(l.hub)), slog.Uint64("epoch", l.epoch),
		slog.Any("cause", cause))
	m.Moves.unlink(l, func() {
		m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
			return c.HandleLinkLoss(now, l.hub, l.epoch)
		})
	})
}

// reportLinked tells the core that the peer answered. It returns false if the wrong hub answered,
// or the dial is over.
func (l *outLink) reportLinked(hello *peerv1.Hello) bool {
	m, linked := l.mesh, false
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		effects := c.HandleLinked(now, l.hub, l.epoch, hello)
		if linked = c.HasLink(l.hub, l.epoch); linked {
			l.linked = true
			delete(m.failing, l.hub)
		}
		return effects
	})
	return linked
}

// runStreams runs the streams until the link ends.
func (l *outLink) runStreams(stream peerv1.PeerService_ControlClient) {
	var running sync.WaitGroup
	running.Go(func() {
		err := l.requests.Send(l.ctx, stream.Send)
		if err == nil {
			err = stream.CloseSend()
		}
		if err != nil {
			l.endBroken(err)
		}
	})
	for _, lane := range l.lanes {
		running.Go(lane.runLane)
	}
	if l.takesMoves {
		running.Go(l.runMoves)
	}
	l.endBroken(l.readResponses(stream))
	running.Wait()
}

// removeLink removes the link from the table, and with it the memory of its lanes.
func (l *outLink) removeLink() {
	m := l.mesh
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out[l.hub] == l {
		delete(m.out, l.hub)
	}
}

// openControl says hello and returns the answer.
func (l *outLink) openControl() (peerv1.PeerService_ControlClient, *peerv1.Hello, error) {
	stream, err := l.peer.control.Control(l.ctx)
	if err != nil {
		return nil, nil, err
	}
	err = stream.Send(&peerv1.ControlRequest{
		Body: &peerv1.ControlRequest_Hello{Hello: l.dial.Hello},
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err // EOF: the answer has the reason
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	hello := first.GetHello()
	if err := validateMessage(hello); err != nil {
		return nil, nil, err
	}
	return stream, hello, nil
}

// reportDialFailure tells the core that the dial has failed.
func (l *outLink) reportDialFailure(err error) {
	if cause := context.Cause(l.ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, errClosing) {
		return
	}
	m := l.mesh
	reason := refusalOf(err)
	why := core.OutcomeOf(reason)
	if l.peer != nil && l.peer.wasRefused() {
		why = core.DialAbsent
	}
	m.metrics.countDialFailure(reason)
	news := false
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		effects := c.HandleDialFailure(now, l.hub, l.epoch, why)
		// a dial of a hub that is gone fails only once
		if news = c.CountsMember(now, l.hub) && !m.failing[l.hub]; news {
			m.failing[l.hub] = true
		}
		return effects
	})
	if news {
		m.logger.Warn("dial failed", slog.String("hub", string(l.hub)),
			slog.String("address", l.dial.Address), slog.Any("error", err))
	}
}

// readResponses processes the peer's messages until the link ends. It returns the cause of the end.
func (l *outLink) readResponses(stream peerv1.PeerService_ControlClient) error {
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errHungUp
		case err != nil:
			return fmt.Errorf("%w: %w", errHungUp, err)
		}
		l.mesh.callCore(func(c *core.Core, now time.Duration) []core.Effect {
			effects := c.HandleResponse(now, l.hub, l.epoch, r)
			if a := r.GetProbeAnswer(); a != nil && c.HasLink(l.hub, l.epoch) {
				l.noteAnswer(a.GetNumber())
			}
			return effects
		})
	}
}

// stopWaiting releases the callers that wait for the peer.
func (l *outLink) stopWaiting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silence()
}

// noteAnswer notes that a probe was answered, so the peer is not silent any more. The caller holds
// Mesh.mu, so that noteAnswer and stopWaiting come in the order of the core's decisions.
func (l *outLink) noteAnswer(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mesh.metrics.observeProbe(time.Since(l.probed[number%probesTimed]))
	if l.silent.Err() != nil {
		l.allowWaiting()
	}
}

// allowWaiting lets callers wait for the peer until it is suspect.
func (l *outLink) allowWaiting() {
	l.silent, l.silence = context.WithCancel(context.Background())
	context.AfterFunc(l.silent, func() {
		for _, lane := range l.lanes {
			lane.giveUp()
		}
	})
}

// patienceContext returns a context that is done when callers must not wait for the peer any more.
func (l *outLink) patienceContext() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// refusalOf returns the reason for which a peer refused a hello, from a status.
func refusalOf(err error) peerv1.RefusalReason {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.FailedPrecondition && st.Code() != codes.InvalidArgument {
		return peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED
	}
	return reasonIn(st)
}
