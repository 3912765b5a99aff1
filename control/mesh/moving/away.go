package moving

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/hub"
)

const (
	// movesAtOnce is the most connections that MoveAway has on the move at once. Each call of the
	// cluster looks at all of them. Their pace is that of the hubs that take them.
	movesAtOnce = 64
	// busyPause is the time after which a move that could not begin is tried again: the connection
	// is on a different move. Such moves take up to busyTries as long.
	busyPause = 20 * time.Millisecond
	busyTries = 100
)

// MoveAway moves connections to linked peers that do not leave, in turn. It calls moved for each
// that has moved. It returns the number of those when all have moved or can't, or when ctx is done;
// moves that are under way then go on. moved may be called concurrently.
func (s *Shell) MoveAway(ctx context.Context, ids []hub.ConnectionID, moved func()) int {
	can := s.hub != nil
	s.Do(func() { can = can && s.config.Links.CanMove() })
	if !can {
		return 0
	}
	var count atomic.Int64
	var movers sync.WaitGroup
	slots := make(chan struct{}, movesAtOnce)
	for i, id := range ids {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		movers.Go(func() {
			defer func() { <-slots }()
			if s.moveToAny(ctx, id, i) {
				count.Add(1)
				moved()
			}
		})
	}
	movers.Wait()
	return int(count.Load())
}

// moveToAny moves a connection to the first peer that takes it. first says which is asked first.
func (s *Shell) moveToAny(ctx context.Context, id hub.ConnectionID, first int) bool {
	takers := s.config.Links.Takers()
	for i := range takers {
		to := takers[(first+i)%len(takers)]
		for range busyTries {
			begun, isDone := s.moveTo(ctx, id, to)
			if isDone || ctx.Err() != nil {
				return isDone
			}
			if begun {
				break // this peer does not take it
			}
			select {
			case <-time.After(busyPause):
			case <-ctx.Done():
			}
		}
	}
	return false
}

// moveTo moves a connection to a peer. begun is false if that can't be now. isDone says that the
// connection is there.
func (s *Shell) moveTo(ctx context.Context, id hub.ConnectionID, to hub.ID) (begun, isDone bool) {
	outcome := make(chan string, 1)
	s.Do(func() {
		if s.watched[id] != nil {
			return
		}
		s.Handle(func(c *move.Core, now time.Duration) (effects []move.Effect) {
			if effects, begun = c.StartMove(now, id, to); begun {
				s.watched[id] = outcome
			}
			return effects
		})
	})
	if !begun {
		return false, false
	}
	select {
	case how := <-outcome:
		return true, how == outcomeDone
	case <-ctx.Done():
		s.Do(func() { delete(s.watched, id) })
		return true, false
	}
}

// moveWaits are the waits for the end of all moves of a hub. They change within Shell.Do.
type moveWaits []chan<- struct{}

// AwaitMoves waits until no connection is on its way from this hub or to it: the hub is then
// needed for no move that has begun. It returns the error of ctx if that is done before.
func (s *Shell) AwaitMoves(ctx context.Context) error {
	over := make(chan struct{})
	s.Do(func() {
		s.waits = append(s.waits, over)
		s.waits.endUnless(s.core.HasMoves())
	})
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err() // the entry stays until the moves are over: few callers wait
	}
}

// endUnless ends the waits unless there are moves.
func (w *moveWaits) endUnless(hasMoves bool) {
	if hasMoves {
		return
	}
	for _, over := range *w {
		close(over)
	}
	*w = nil
}
