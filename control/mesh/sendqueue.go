package mesh

import (
	"context"
)

// queueSize is the most control messages that wait for a stream. A correct peer can be due fewer:
// 100 probes or answers in the 10 s before its link is ended, and 4 messages of interest.
const queueSize = 256

// sendQueue holds the messages to send on a stream, in order. putItem never waits.
type sendQueue[T any] struct {
	items chan T
	last  chan struct{} // closed: no item follows
}

func newSendQueue[T any](size int) sendQueue[T] {
	return sendQueue[T]{items: make(chan T, size), last: make(chan struct{})}
}

// putItem adds an item. It returns false if the queue is full.
func (q *sendQueue[T]) putItem(item T) bool {
	select {
	case q.items <- item:
		return true
	default:
		return false
	}
}

// closeInput makes sendItems return once all items are sent. No item may follow. It is called once.
func (q *sendQueue[T]) closeInput() { close(q.last) }

// sendItems sends the items until ctx is done, send fails, or the queue is empty after closeInput
// (nil).
func (q *sendQueue[T]) sendItems(ctx context.Context, send func(T) error) error {
	for {
		select {
		case item := <-q.items:
			if err := send(item); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case item := <-q.items:
			if err := send(item); err != nil {
				return err
			}
		case <-q.last:
			if len(q.items) == 0 {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
