package streams

import (
	"context"
	"time"
)

// Item is a message of a stream, or the error that ended the stream.
type Item[T any] struct {
	Message T     // the zero T with an error
	Err     error // io.EOF, or gRPC's
}

// ReceiveAll reads a stream until an error, so that its handler can wait for several events. ctx is
// the stream's. Its goroutine ends when the handler has returned.
func ReceiveAll[T any](ctx context.Context, recv func() (T, error)) <-chan Item[T] {
	out := make(chan Item[T])
	go func() {
		for {
			message, err := recv()
			select {
			case out <- Item[T]{message, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// ReceiveOne reads a single message of a stream. Its goroutine ends with the message or the stream.
func ReceiveOne[T any](recv func() (T, error)) <-chan Item[T] {
	out := make(chan Item[T], 1)
	go func() {
		message, err := recv()
		out <- Item[T]{message, err}
	}()
	return out
}

// AwaitFirst returns the first message of a stream. It returns late if there is none within limit:
// a silent stream is not kept.
func AwaitFirst[T any](
	ctx context.Context, in <-chan Item[T], limit time.Duration, late error,
) (first T, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-in:
		return r.Message, r.Err
	case <-timer.C:
		return first, late
	case <-ctx.Done():
		return first, ctx.Err()
	}
}
