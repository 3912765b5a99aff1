package node

import (
	"context"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/chunks"
)

// drainStep is the least time between two steps of closeEvenly: many connections share a wake-up.
const drainStep = 10 * time.Millisecond

// closeEvenly closes the connections of a hub for cause.Shutdown, spread evenly over a period, and
// calls closed with the number of each step. It returns when they are closed, at the end of the
// period at the latest, or when ctx ends. The hub serves open connections as before. The caller
// must have stopped new clients: connections of later clients stay.
//
// The pace follows the rest: the connections that are open, over the time that is left. A client
// that leaves by itself makes the rest slower. A late step does not delay the next steps. The first
// close is at once, so a hub with a single client needs no time.
func closeEvenly(ctx context.Context, h *hub.Hub, period time.Duration, closed func(count int)) {
	turn, queue := time.Now(), h.DrainOrder()
	for end := turn.Add(period); ; {
		left := h.Len()
		if left == 0 || len(queue) == 0 {
			return
		}
		count, pause := paceDrain(left, end.Sub(turn))
		var step []*hub.Connection
		step, queue = takeOpen(queue, count)
		chunks.HandleAll(step, func(some []*hub.Connection) {
			for _, c := range some {
				c.Close(cause.Shutdown.CloseStatus())
			}
		})
		closed(len(step))
		if h.Len() == 0 {
			return
		}
		turn = turn.Add(pause) // from when it was due: a busy machine wakes up late
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(turn)):
		}
	}
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
