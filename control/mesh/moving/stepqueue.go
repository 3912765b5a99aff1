package moving

import (
	"context"
	"sync"

	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// mostSteps is the most steps of moves that wait for a stream. A link with more ends: the peer does
// not read. Each move has a few, and few moves are under way at once.
const mostSteps = 1 << 16

// StepQueue holds steps of moves for a Move stream, in order. Put may be called concurrently, and
// never waits. Send is called once.
type StepQueue struct {
	mu    sync.Mutex
	steps []*move.Message
	news  chan struct{} // holds a token when there may be a step
}

// NewStepQueue returns an empty StepQueue.
func NewStepQueue() *StepQueue { return &StepQueue{news: make(chan struct{}, 1)} }

// Put adds a step. It returns false if the queue is full.
func (q *StepQueue) Put(m *move.Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.steps) >= mostSteps {
		return false
	}
	q.steps = append(q.steps, m)
	select {
	case q.news <- struct{}{}:
	default:
	}
	return true
}

// takeAll removes and returns all steps.
func (q *StepQueue) takeAll() []*move.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	steps := q.steps
	q.steps = nil
	return steps
}

// Send sends the steps, in parts, until ctx is done, or send fails.
func (q *StepQueue) Send(ctx context.Context, send func(*peerv1.MoveMessage) error) error {
	for {
		for _, step := range q.takeAll() {
			parts, err := Encode(step)
			if err != nil {
				return err
			}
			for _, part := range parts {
				if err := send(part); err != nil {
					return err
				}
			}
		}
		select {
		case <-q.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
