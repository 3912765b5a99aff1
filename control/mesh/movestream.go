package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/control/mesh/streams"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// moveVersion is the first version of the peer protocol with moves of connections.
const moveVersion = 3

// runMoves opens the Move stream, and carries steps until the link ends.
func (l *outLink) runMoves() {
	stream, err := l.openMoves()
	if err != nil {
		l.endBroken(fmt.Errorf("%w: %w", errLaneLost, err))
		return
	}
	sent := make(chan struct{})
	go func() { // ends with the link, or when the stream breaks
		defer close(sent)
		l.endBroken(l.moves.Send(l.ctx, func(m *peerv1.MoveMessage) error {
			return stream.Send(&peerv1.MoveRequest{Body: &peerv1.MoveRequest_Message{Message: m}})
		}))
	}()
	l.endBroken(l.readSteps(stream))
	<-sent
}

// openMoves says hello and takes the answer, as lane.openStream does.
func (l *outLink) openMoves() (peerv1.PeerService_MoveClient, error) {
	timer := time.AfterFunc(core.DialTimeout, func() {
		l.end(fmt.Errorf("%w: %w", errLaneLost, core.ErrDialTime))
	})
	defer timer.Stop()
	stream, err := l.peer.data.Move(l.ctx)
	if err != nil {
		return nil, err
	}
	hello := &peerv1.LaneHello{Hub: l.dial.Hello.GetSelf().GetHub(), Epoch: l.epoch}
	err = stream.Send(&peerv1.MoveRequest{Body: &peerv1.MoveRequest_Hello{Hello: hello}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err // EOF: the answer has the reason
	}
	first, err := stream.Recv()
	if err == nil && first.GetHello() == nil {
		err = fmt.Errorf("%w: a Move stream was answered with %T",
			core.ErrViolation, first.GetBody())
	}
	return stream, err
}

// readSteps processes the steps of the peer until the link ends. It returns the cause of the end.
func (l *outLink) readSteps(stream peerv1.PeerService_MoveClient) error {
	var steps moving.Assembler
	for {
		r, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("%w: moves: %w", errHungUp, err)
		}
		step, err := addStep(&steps, r.GetMessage())
		if err != nil {
			return err
		}
		if step != nil {
			l.mesh.Moves.shell.HandleStep(l.hub, *step, false)
		}
	}
}

// addStep checks a message of a Move stream, and returns the step that it ends, or nil.
func addStep(steps *moving.Assembler, m *peerv1.MoveMessage) (*move.Message, error) {
	if err := validateMessage(m); err != nil {
		return nil, err
	}
	step, err := steps.Add(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", core.ErrViolation, err)
	}
	return step, nil
}

// Move implements the RPC.
func (s *peerService) Move(stream peerv1.PeerService_MoveServer) error {
	first, err := awaitOpening(stream.Context(), streams.ReceiveOne(stream.Recv))
	if err != nil {
		return toStatus(err)
	}
	hello := first.GetHello()
	if err := validateMessage(hello); err != nil {
		return toStatus(err)
	}
	l, err := s.admitStream(hello, func(l *inLink) error {
		if l.movesOpened {
			return fmt.Errorf("%w: the Move stream was opened before", core.ErrViolation)
		}
		l.movesOpened = true
		return nil
	})
	if err != nil {
		return toStatus(err)
	}
	defer l.lanes.Done()
	defer context.AfterFunc(stream.Context(), func() { l.end(errHungUp) })()
	err = l.serveMoves(stream)
	l.end(fmt.Errorf("%w: %w", errLaneLost, err))
	return toStatus(err)
}

// serveMoves carries steps until the link ends. It returns the cause. From then on no step of the
// peer counts.
func (l *inLink) serveMoves(stream peerv1.PeerService_MoveServer) error {
	err := stream.Send(&peerv1.MoveResponse{
		Body: &peerv1.MoveResponse_Hello{Hello: &peerv1.LaneHelloAnswer{}},
	})
	if err != nil {
		return errHungUp
	}
	go func() { // ends with the link; a blocked Send ends with the stream
		l.end(l.moves.Send(l.ctx, func(m *peerv1.MoveMessage) error {
			return stream.Send(&peerv1.MoveResponse{Body: &peerv1.MoveResponse_Message{Message: m}})
		}))
	}()
	received := streams.ReceiveAll(stream.Context(), stream.Recv)
	steps := moving.Assembler{IsOfRequests: true}
	for {
		var r streams.Item[*peerv1.MoveRequest]
		select {
		case r = <-received:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
		if r.Err != nil {
			return errHungUp
		}
		step, err := addStep(&steps, r.Message.GetMessage())
		if err != nil {
			return err
		}
		if step != nil {
			l.mesh.Moves.shell.HandleStep(l.key.hub, *step, true)
		}
	}
}
