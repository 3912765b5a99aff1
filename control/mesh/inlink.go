package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/control/mesh/streams"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// inLink is a link that a peer dials: its Control stream and its lanes. The handler of the Control
// stream owns it. The link is over when that handler and the lanes' handlers have ended. A read
// that they leave behind for gRPC to end can't change the state any more.
type inLink struct {
	// Static.
	mesh *Mesh
	key  linkKey

	ctx    context.Context // done when the link ends, with the cause
	end    context.CancelCauseFunc
	answer chan *peerv1.Hello // the core's hello, when it accepts the link
	most   uint32             // lanes: each lane's number is below it

	batches    bool // the peer takes results in batches
	takesMoves bool // the peer takes part in moves
	moves      *moving.StepQueue
	isAccepted bool // the move core knows of the link; of the handler of the Control stream

	responses streams.Queue[*peerv1.ControlResponse]

	mu        sync.Mutex
	finishing bool
	closed    bool // accepts no more lanes
	opened    map[uint32]bool
	// movesOpened: the Move stream was opened.
	movesOpened bool
	lanes       sync.WaitGroup
}

// peerService implements PeerService.
type peerService struct {
	peerv1.UnimplementedPeerServiceServer
	mesh     *Mesh
	executor Executor
}

// Service returns the gRPC service for peers. executor carries out their calls.
func (m *Mesh) Service(executor Executor) peerv1.PeerServiceServer {
	m.Moves.shell.SetExecutor(executor)
	return &peerService{mesh: m, executor: executor}
}

// Control implements the RPC.
func (s *peerService) Control(stream peerv1.PeerService_ControlServer) error {
	received := streams.ReceiveAll(stream.Context(), stream.Recv)
	first, err := awaitOpening(stream.Context(), received)
	if err != nil {
		return toStatus(err)
	}
	m, hello := s.mesh, first.GetHello()
	if err := checkHello(hello); err != nil {
		m.refusals.logRefusal(m.logger, claimedHub(hello),
			peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION)
		return toStatus(err)
	}
	select { // before this hub knows its cluster it can't judge the hello's
	case <-m.opened:
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-m.closing.Done():
		return toStatus(s.refuseLeaving(hello))
	}
	l, err := s.submitHello(hello)
	if err != nil {
		return toStatus(err)
	}
	err = l.serveControl(stream, received)
	if refused, ok := errors.AsType[refusedError](err); ok {
		m.refusals.logRefusal(m.logger, l.key.hub, refused.reason)
	} else if err != nil && !errors.Is(err, errHungUp) {
		m.logger.Info("link of a peer ended", slog.String("hub", string(l.key.hub)),
			slog.Uint64("epoch", l.key.epoch), slog.Any("cause", err))
	}
	l.removeLink()
	if err == nil {
		return nil
	}
	return toStatus(err)
}

// checkHello checks the rules for a dialler's hello.
func checkHello(hello *peerv1.Hello) error {
	if err := validateMessage(hello); err != nil {
		return err
	}
	if hello.GetLanes() == 0 { // only an answer may have none
		return fmt.Errorf("%w: a hello without lanes", core.ErrViolation)
	}
	return nil
}

// claimedHub returns the hub that a hello names as its sender, for the log. It returns "" if the
// hello breaks the rule for ids.
func claimedHub(hello *peerv1.Hello) hub.ID {
	if id := hello.GetSelf().GetHub(); len(id) <= maxID {
		return hub.ID(id)
	}
	return ""
}

// refuseLeaving returns the refusal of a hello by a hub that leaves. If the hello looks for another
// hub, the refusal must not make that hub look as if it had left.
func (s *peerService) refuseLeaving(hello *peerv1.Hello) error {
	if hello.GetExpected().GetHub() != string(s.mesh.config.Self) {
		return refusedError{peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB}
	}
	return refusedError{peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN}
}

// submitHello passes a hello to the core. The core's answer comes to the link. A second hello of
// the same epoch is refused at once, and so is each hello after finishLinks has begun.
func (s *peerService) submitHello(hello *peerv1.Hello) (*inLink, error) {
	m := s.mesh
	l := &inLink{
		mesh: m, key: linkKey{hub.ID(hello.GetSelf().GetHub()), hello.GetEpoch()},
		answer:    make(chan *peerv1.Hello, 1),
		most:      hello.GetLanes(),
		responses: streams.NewQueue[*peerv1.ControlResponse](queueSize),
		moves:     moving.NewStepQueue(),
		opened:    make(map[uint32]bool),
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	version := m.core.VersionWith(hello)
	l.batches, l.takesMoves = version >= core.BatchVersion, version >= moveVersion
	var err error
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		switch {
		case m.sealed:
			err = s.refuseLeaving(hello)
			return nil
		case m.in[l.key] != nil:
			err = refusedError{peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH}
			return nil
		}
		m.tasks.Add(1)
		m.in[l.key] = l
		return c.HandleHello(now, hello)
	})
	return l, err
}

// serveControl runs the link. It returns the cause for which the link ended, or nil after a
// farewell.
func (l *inLink) serveControl(
	stream peerv1.PeerService_ControlServer, received <-chan streams.Item[*peerv1.ControlRequest],
) error {
	defer context.AfterFunc(stream.Context(), func() { l.end(errHungUp) })()
	var hello *peerv1.Hello
	select {
	case hello = <-l.answer:
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	if !l.mesh.Moves.accept(l) {
		return refusedError{peerv1.RefusalReason_REFUSAL_REASON_MOVES_UNDER_WAY}
	}
	said := make(chan error, 1)
	go func() { // ends with the link; a blocked Send ends with the stream
		err := stream.Send(&peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_Hello{Hello: hello},
		})
		if err == nil {
			err = l.responses.Send(l.ctx, stream.Send)
		}
		said <- err
	}()
	for {
		select {
		case r := <-received:
			if r.Err != nil {
				return errHungUp
			}
			l.mesh.callCore(func(c *core.Core, now time.Duration) []core.Effect {
				return c.HandleRequest(now, l.key.hub, l.key.epoch, r.Message)
			})
		case err := <-said:
			return err
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}

// removeLink waits until the link's lanes have ended, removes the link and tells the core.
func (l *inLink) removeLink() {
	m := l.mesh
	l.end(errHungUp)
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.lanes.Wait()
	m.Moves.endAccepted(l)
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		delete(m.in, l.key)
		return c.HandleLinkEnd(now, l.key.hub, l.key.epoch)
	})
	m.tasks.Done()
}

// queueResponse queues a message for the Control stream. If the queue is full, the link ends.
func (l *inLink) queueResponse(r *peerv1.ControlResponse) {
	if !l.responses.Put(r) {
		l.end(errBacklog)
	}
}

// finishResponses ends the link after the queued messages. The caller holds Mesh.mu, so no message
// is queued later.
func (l *inLink) finishResponses() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.finishing {
		l.finishing = true
		l.responses.CloseInput()
	}
}

// awaitOpening returns the first message of a stream.
func awaitOpening[T any](ctx context.Context, in <-chan streams.Item[T]) (T, error) {
	return streams.AwaitFirst(ctx, in, core.LinkTimeout, core.ErrSilent)
}

// Data implements the RPC.
func (s *peerService) Data(stream peerv1.PeerService_DataServer) error {
	first, err := awaitOpening(stream.Context(), streams.ReceiveOne(stream.Recv))
	if err != nil {
		return toStatus(err)
	}
	hello := first.GetHello()
	if err := validateMessage(hello); err != nil {
		return toStatus(err)
	}
	l, err := s.admitStream(hello, func(l *inLink) error { return l.openLane(hello.GetLane()) })
	if err != nil {
		return toStatus(err)
	}
	defer l.lanes.Done()
	defer context.AfterFunc(stream.Context(), func() { l.end(errHungUp) })()
	err = newInLane(l, s.executor, int(hello.GetLane())).serveLane(stream)
	l.end(fmt.Errorf("%w: %w", errLaneLost, err))
	return toStatus(err)
}

// admitStream returns the open link that a lane or a Move stream belongs to, and adds the stream to
// it. open checks and notes it under the link's lock.
func (s *peerService) admitStream(
	hello *peerv1.LaneHello, open func(l *inLink) error,
) (*inLink, error) {
	m := s.mesh
	key := linkKey{hub.ID(hello.GetHub()), hello.GetEpoch()}
	m.callCore(func(c *core.Core, now time.Duration) []core.Effect {
		return c.HandleFirstUse(now, key.hub, key.epoch)
	})
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.in[key]
	if l == nil || !m.core.AdmitsLink(key.hub, key.epoch) {
		return nil, refusedError{peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, refusedError{peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH}
	}
	if err := open(l); err != nil {
		return nil, err
	}
	l.lanes.Add(1)
	return l, nil
}

// openLane notes that a lane is open. The caller must hold l.mu.
func (l *inLink) openLane(number uint32) error {
	switch {
	case number >= l.most:
		return fmt.Errorf("%w: lane %d of %d", core.ErrViolation, number, l.most)
	case l.opened[number]:
		return fmt.Errorf("%w: lane %d was opened before", core.ErrViolation, number)
	}
	l.opened[number] = true
	return nil
}

// Read implements the RPC.
func (s *peerService) Read(
	ctx context.Context, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	if err := validateMessage(r); err != nil {
		return nil, toStatus(err)
	}
	if hub.ID(r.GetHub()) != s.mesh.config.Self {
		return nil, toStatus(refusedError{peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB})
	}
	if s.mesh.Forgotten() {
		return nil, toStatus(refusedError{peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB})
	}
	return s.executor.Read(ctx, r)
}
