package streams

import "context"

// Queue holds the items to send on a stream, in order. Its methods are safe for concurrent use.
type Queue[T any] struct {
	items chan T
	last  chan struct{} // closed: no item follows
}

// NewQueue returns a Queue with room for size items.
func NewQueue[T any](size int) Queue[T] {
	return Queue[T]{items: make(chan T, size), last: make(chan struct{})}
}

// Put adds an item, and never waits. It returns false if the queue is full.
func (q *Queue[T]) Put(item T) bool {
	select {
	case q.items <- item:
		return true
	default:
		return false
	}
}

// CloseInput makes Send return once all items are sent. No item may follow. It is called once.
func (q *Queue[T]) CloseInput() { close(q.last) }

// Send sends the items until ctx is done, send fails, or the queue is empty after CloseInput
// (nil).
func (q *Queue[T]) Send(ctx context.Context, send func(T) error) error {
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
