package moving

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/connhub/connhub/control/mesh/handover"
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/transfer"
)

// errOldPeer: a hub with a link to this hub takes no part in moves, so none can end here.
var errOldPeer = errors.New("a linked hub takes no part in moves")

// entrance is a connection that this hub has taken, until its interest is in force at all hubs.
// Until then no origin may forget the move: it would leave this hub out of calls.
type entrance struct {
	move move.Move
	done []hub.ID // origins that may forget the move then
}

// giveConnection carries out an effect of the old hub, and reports its result.
func (s *Shell) giveConnection(e move.Effect) {
	switch e := e.(type) {
	case move.Freeze:
		s.freezeConnection(e.Move)
	case move.Collect:
		ops, err := s.hub.Moves().Changes(e.Move.Connection)
		if err == nil && len(ops) == 0 {
			return
		}
		changes, err := encodeChanges(ops, err)
		if s.continueMove(e.Move, err) {
			s.performAll(s.core.HandleChanges(s.config.Now(), e.Move.ID, changes))
		}
	case move.Seal:
		// If the changes can't be encoded, the new hub has not got them: the move can fail yet.
		changes, err := encodeChanges(s.hub.Moves().Seal(e.Move.Connection))
		if s.continueMove(e.Move, err) {
			s.performAll(s.core.HandleSealed(s.config.Now(), e.Move.ID, changes))
		}
	case move.Thaw:
		s.thawConnection(e.Move)
	case move.Release:
		s.releaseConnection(e)
	}
}

// takeConnection carries out an effect of the new hub, and reports its result.
func (s *Shell) takeConnection(e move.Effect) {
	switch e := e.(type) {
	case move.Adopt:
		err := s.adoptSnapshot(e)
		if s.continueMove(e.Move, err) {
			s.performAll(s.core.HandleAdopted(s.config.Now(), e.Move.ID))
		}
	case move.Apply:
		err := s.applyChanges(e)
		if s.continueMove(e.Move, err) && e.IsLast {
			s.performAll(s.core.HandleApplied(s.config.Now(), e.Move.ID))
		}
	case move.Commit:
		s.commitMove(e.Move)
	case move.Abandon:
		_ = s.hub.Moves().Abandon(e.Move.Connection) // there is none if Adopt has failed
	case move.Close:
		if how, err := handover.UnmarshalClose(bytesOf(e.Body)); err == nil {
			s.hub.Moves().Close(e.Move.Connection, *how)
		}
	}
}

// encodeChanges encodes the changes of a connection, unless there is an error already.
func encodeChanges(changes []hub.Op, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return handover.MarshalChanges(changes, time.Now())
}

// continueMove reports whether a move goes on after an effect. It tells the core of an error.
func (s *Shell) continueMove(m move.Move, err error) bool {
	if err == nil {
		return true
	}
	isFinal := errors.Is(err, hub.ErrConnectionNotFound) || errors.Is(err, hub.ErrClosed) ||
		errors.Is(err, hub.ErrResumeRefused)
	s.metrics.countFailure(err)
	s.config.Logger.Info("move failed", slog.String("connection", string(m.Connection)),
		slog.String("from", string(m.From)), slog.String("to", string(m.To)),
		slog.Any("cause", err))
	s.performAll(s.core.HandleFailure(s.config.Now(), m.ID, isFinal))
	return false
}

// freezeConnection begins a move. It waits for the client's present command in a goroutine.
func (s *Shell) freezeConnection(m move.Move) {
	s.begun[m.ID] = s.config.Now()
	if s.takes.isLooking {
		s.takes.given[m.ID] = struct{}{}
	}
	ctx, cancel := context.WithCancel(s.running)
	s.freezing[m.ID] = cancel
	s.tasks.Go(func() {
		defer cancel()
		snapshot, err := s.hub.Moves().Freeze(ctx, m.Connection, m.To)
		f := frozen{m, 0, nil, err == nil, err}
		if err == nil {
			f.epoch = snapshot.Epoch + 1
			f.body, f.err = handover.MarshalSnapshot(snapshot, time.Now())
		}
		s.Do(func() { s.finishFreeze(f) })
	})
}

// frozen is the outcome of Moves.Freeze.
type frozen struct {
	move   move.Move
	epoch  uint32 // of the connection at the new hub
	body   []byte // the snapshot
	isHeld bool   // the connection is frozen
	err    error
}

func (s *Shell) finishFreeze(f frozen) {
	id := f.move.ID
	if s.freezing[id] == nil { // the move has ended meanwhile
		if f.isHeld {
			_ = s.hub.Moves().Thaw(f.move.Connection) // fails if the connection has ended
		}
		return
	}
	delete(s.freezing, id)
	s.Handle(func(c *move.Core, now time.Duration) []move.Effect {
		if f.err != nil {
			s.continueMove(f.move, f.err) // which thaws
			return nil
		}
		return c.HandleFrozen(now, id, f.epoch, f.body)
	})
}

func (s *Shell) thawConnection(m move.Move) {
	s.endMove(m, outcomeFailed)
	if cancel := s.freezing[m.ID]; cancel != nil {
		delete(s.freezing, m.ID)
		cancel()
		return
	}
	_ = s.hub.Moves().Thaw(m.Connection) // fails if the connection has ended
}

// releaseConnection lets go of a connection that the new hub has, or that is lost with it.
func (s *Shell) releaseConnection(e move.Release) {
	if e.IsLost {
		s.endMove(e.Move, outcomeLost)
		s.hub.Moves().Lose(e.Move.Connection)
		return
	}
	outcome := outcomeDone
	if e.IsInDoubt {
		outcome = outcomeDoubt
		s.config.Logger.Warn("connection let go in doubt",
			slog.String("connection", string(e.Move.Connection)),
			slog.String("to", string(e.Move.To)))
	}
	s.endMove(e.Move, outcome)
	how, err := s.hub.Moves().Release(e.Move.Connection, cause.Moved.CloseStatus())
	if err != nil {
		return
	}
	var ended any // nil, and not empty bytes in an interface
	if how != nil {
		if ended, err = handover.MarshalClose(how); err != nil {
			return
		}
	}
	s.performAll(s.core.HandleReleased(s.config.Now(), e.Move.ID, ended))
}

// endMove counts a move from this hub.
func (s *Shell) endMove(m move.Move, outcome string) {
	if at, ok := s.begun[m.ID]; ok {
		delete(s.begun, m.ID)
		delete(s.takes.given, m.ID)
		if len(s.takes.looks) > 0 {
			s.doLater(s.takes.lookAgain)
		}
		s.metrics.observeMove(outcome, s.config.Now()-at)
	}
	if watched := s.watched[m.Connection]; watched != nil {
		delete(s.watched, m.Connection)
		watched <- outcome
	}
}

// offered is a snapshot of a peer, decoded.
type offered struct {
	snapshot *hub.Snapshot
	err      error
}

// HandleStep makes a step or a mark of a peer an input of the core. It decodes a snapshot first,
// outside the gate: that takes milliseconds. isRequest says that the peer has dialled the link.
func (s *Shell) HandleStep(from hub.ID, m move.Message, isRequest bool) {
	if m.Kind == move.Offer {
		o := offered{err: hub.ErrShuttingDown}
		if s.hub != nil {
			o.snapshot, o.err = handover.UnmarshalSnapshot(
				bytesOf(m.Body), time.Now(), s.clients.Restore)
		}
		m.Body = o
	}
	s.Do(func() {
		s.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			if isRequest {
				return c.HandleRequest(now, from, m)
			}
			return c.HandleResponse(now, from, m)
		})
	})
}

func (s *Shell) adoptSnapshot(e move.Adopt) error {
	o, _ := e.Body.(offered)
	snapshot := o.snapshot
	switch {
	case o.err != nil:
		return o.err
	case snapshot == nil || snapshot.ID != e.Move.Connection:
		return handover.ErrBroken
	}
	if !s.config.Links.CanMove() { // the calls of such a hub would be left out here
		return errOldPeer
	}
	protocol, ok := s.clients.Speaks(snapshot.Protocol)
	if !ok {
		return hub.ErrResumeRefused
	}
	return s.hub.Moves().Adopt(snapshot, e.Move.Epoch, protocol)
}

func (s *Shell) applyChanges(e move.Apply) error {
	changes, err := handover.UnmarshalChanges(bytesOf(e.Body), time.Now())
	if err != nil {
		return err
	}
	for _, op := range changes {
		if err := s.hub.Moves().Apply(e.Move.Connection, op); err != nil {
			return err
		}
	}
	return nil
}

// commitMove makes this hub the owner. The origins may forget the move when all of them know its
// interest.
func (s *Shell) commitMove(m move.Move) {
	if s.hub.Moves().Commit(m.Connection) != nil {
		return
	}
	keys := s.hub.Moves().Keys(m.Connection)
	if len(keys) == 0 {
		return // it has ended at once
	}
	s.entering[m.ID] = &entrance{move: m}
	s.config.Links.ThenInForce(keys, func(error) {
		s.doLater(func() { s.finishEntrance(m.ID) })
	})
}

func (s *Shell) finishEntrance(id move.ID) {
	e := s.entering[id]
	delete(s.entering, id)
	for _, peer := range e.done {
		s.config.Links.Respond(peer, &move.Message{Kind: move.Done, Move: e.move})
	}
}

// Tombstone returns where a connection went from this hub, and reports whether that is known.
func (s *Shell) Tombstone(id hub.ConnectionID) (transfer.Tombstone, bool) {
	if s.hub == nil {
		return transfer.Tombstone{}, false
	}
	return s.hub.Moves().Tombstone(id)
}

// bytesOf returns the body of a message of a peer.
func bytesOf(body any) []byte {
	b, _ := body.([]byte)
	return b
}
