package mesh

import "context"

// queueSize is how many control messages wait for a stream: more than a peer that keeps to the protocol can be due,
// which is 100 probes or their answers in the 10 s before it is given up, and 4 messages of interest.
const queueSize = 256

// sendQueue is what is to be said on a stream, in order. Who puts something in never waits.
type sendQueue[T any] struct {
	items chan T
	last  chan struct{} // nothing is put in any more
}

func newSendQueue[T any](size int) sendQueue[T] {
	return sendQueue[T]{items: make(chan T, size), last: make(chan struct{})}
}

// putItem reports whether there was room.
func (q *sendQueue[T]) putItem(item T) bool {
	select {
	case q.items <- item:
		return true
	default:
		return false
	}
}

// closeInput has run return when everything is said. Nothing is put in after it, and it is called once.
func (q *sendQueue[T]) closeInput() { close(q.last) }

// sendItems says everything until ctx is done, or finish and the queue is empty (nil), or send fails.
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
