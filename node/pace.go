package node

import (
	"context"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/chunks"
)

const (
	// drainStep is the least time between two steps of a drain: many connections share a wake-up.
	drainStep = 10 * time.Millisecond
	// moveAgainAfter is the pause until a drain tries again to move the connections that no hub has
	// taken. The pause behind a round that moves none is twice as long as the pause before.
	moveAgainAfter = 500 * time.Millisecond
	// lastPart is the part of the period, from its end, in which a drain closes resumable
	// connections that no hub has taken. Before, a further round may move them: a connection that
	// has just come here can't move on at once.
	lastPart = 4
)

// moveFunc moves connections to other hubs, and calls moved for each, concurrently. It returns when
// each has moved or can't, or when ctx is done; moves that are under way then go on.
type moveFunc func(ctx context.Context, ids []hub.ConnectionID, moved func()) int

// exodus empties a hub that leaves. It moves resumable connections to other hubs, at the pace of
// those. Meanwhile it closes the plain ones for cause.Shutdown, evenly over the period. Resumable
// ones that no hub takes are closed behind those, in the last quarter of the period. It tries to
// move them until then.
//
// It has two goroutines: moveRounds moves, and run closes.
type exodus struct {
	// Static. moved and closed may be called concurrently.
	hub    *hub.Hub
	period time.Duration
	move   moveFunc // nil: there are no other hubs
	moved  func()
	closed func(count int)

	// left gets the resumable connections that are left after each round of moves. It has room for
	// the latest list, which replaces the one before.
	left chan []*hub.Connection

	// Of the goroutine of run.
	plain []*hub.Connection // in the order of their closes
	stuck []*hub.Connection // resumable ones that no hub has taken, behind them
	waits bool              // the first round of moves is not over
	turn  time.Time         // when the next step is due
}

// run returns when the connections are gone, at the end of the period at the latest, or when ctx
// ends. The hub serves open connections as before. The caller must have stopped new clients: plain
// connections of later clients stay.
//
// The pace of the closes follows the rest: the connections to close, over the time that is left. A
// client that leaves by itself makes the rest slower. A late step does not delay the next steps.
// The first close is at once, so a hub with a single client needs no time.
func (e *exodus) run(ctx context.Context) {
	e.turn = time.Now()
	end := e.turn.Add(e.period)
	e.plain, e.stuck = e.hub.DrainOrder()
	if e.move != nil {
		defer e.startMoves(ctx, end)()
	}
	for ctx.Err() == nil && e.hub.Len() > 0 {
		if last := end.Add(-e.period / lastPart); e.waitsForMoves(last) {
			e.turn = last
			e.awaitTurn(ctx)
			continue
		}
		if queued := len(e.plain) + len(e.stuck); queued > 0 {
			rest := max(1, min(e.hub.Len(), queued)) // some leave just now
			count, pause := paceDrain(rest, end.Sub(e.turn))
			e.closeNext(count)
			e.turn = e.turn.Add(pause) // from when it was due: a busy machine wakes up late
			e.awaitTurn(ctx)
			continue
		}
		if e.waits {
			e.noteLeft(<-e.left)
			e.turn = time.Now()
			continue
		}
		if e.move == nil || !time.Now().Before(end) {
			return
		}
		// A connection is not open yet: it comes here just now, and the next round moves it.
		e.turn = time.Now().Add(min(moveAgainAfter, time.Until(end)))
		e.awaitTurn(ctx)
	}
}

// waitsForMoves reports whether only resumable connections are left, and it is too early to close
// them: a further round may move them.
func (e *exodus) waitsForMoves(last time.Time) bool {
	return e.move != nil && len(e.plain) == 0 && len(e.stuck) > 0 && time.Now().Before(last)
}

// awaitTurn waits until the next step is due, the hub is empty, or ctx is done.
func (e *exodus) awaitTurn(ctx context.Context) {
	timer := time.NewTimer(time.Until(e.turn))
	defer timer.Stop()
	for e.hub.Len() > 0 {
		select {
		case list := <-e.left:
			e.noteLeft(list)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// noteLeft takes a list of left. moveRounds ends with ctx or the period, so there is one.
func (e *exodus) noteLeft(list []*hub.Connection) { e.stuck, e.waits = list, false }

// startMoves starts moveRounds. The caller must call stop.
func (e *exodus) startMoves(ctx context.Context, end time.Time) (stop func()) {
	ctx, cancel := context.WithDeadline(ctx, end)
	e.left = make(chan []*hub.Connection, 1)
	resumable := e.stuck
	e.stuck, e.waits = nil, true
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.moveRounds(ctx, resumable)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// moveRounds moves resumable connections until ctx is done. Some may come while the peers do not
// know yet that this hub leaves.
func (e *exodus) moveRounds(ctx context.Context, resumable []*hub.Connection) {
	for pause := moveAgainAfter; ; pause *= 2 {
		ids := make([]hub.ConnectionID, len(resumable))
		for i, c := range resumable {
			ids[i] = c.ID()
		}
		moved := e.move(ctx, ids, e.moved)
		_, resumable = e.hub.DrainOrder()
		if len(resumable) == 0 || moved > 0 {
			pause = moveAgainAfter
		}
		select {
		case <-e.left: // the list before
		default:
		}
		e.left <- resumable
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		_, resumable = e.hub.DrainOrder()
	}
}

// closeNext closes up to count connections.
func (e *exodus) closeNext(count int) {
	var step, more []*hub.Connection
	step, e.plain = takeOpen(e.plain, count)
	if rest := count - len(step); rest > 0 {
		more, e.stuck = takeOpen(e.stuck, rest)
		step = append(step, more...)
	}
	chunks.HandleAll(step, func(some []*hub.Connection) {
		for _, c := range some {
			c.Close(cause.Shutdown.CloseStatus())
		}
	})
	e.closed(len(step))
}

// paceDrain returns how many of the left connections the next step of a drain closes, and the pause
// behind the step, so that all are closed in the rest of the time.
func paceDrain(left int, rest time.Duration) (count int, pause time.Duration) {
	if rest <= 0 {
		return left, 0
	}
	all := time.Duration(left)
	if gap := rest / all; gap >= drainStep {
		return 1, gap
	}
	// rounded up, so that the pause is at least drainStep
	count = min(left, int((drainStep*all+rest-1)/rest))
	return count, rest * time.Duration(count) / all
}

// takeOpen takes up to count open connections from the head of queue, and leaves out connections
// that were closed meanwhile. It returns the rest of the queue.
func takeOpen(queue []*hub.Connection, count int) (open, rest []*hub.Connection) {
	for i, c := range queue {
		queue[i] = nil // or the queue would keep it until the end
		if _, ended := c.Ended(); !ended {
			open = append(open, c)
		}
		if len(open) == count {
			return open, queue[i+1:]
		}
	}
	return open, nil
}
