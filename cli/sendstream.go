package cli

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// sendStream is a stream of a lineSender, with the goroutines that write and read it.
type sendStream struct {
	writes    chan *controlv1.SendStreamRequest // closed: no more
	responses chan *controlv1.SendStreamResponse
	ended     chan error  // the error that ended the stream; nil: its end
	silence   *time.Timer // ends the stream
	expecting bool        // silence runs
	leaving   bool        // the hub announced it
	cancel    context.CancelCauseFunc
	work      sync.WaitGroup
}

// openStream opens a stream. The end of ctx and s.limit bound the opening only, not the stream.
func (s *lineSender) openStream(ctx context.Context) (*sendStream, error) {
	streamCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	o := &sendStream{
		writes:    make(chan *controlv1.SendStreamRequest),
		responses: make(chan *controlv1.SendStreamResponse), ended: make(chan error, 1),
		silence: time.AfterFunc(s.limit, func() { cancel(dial.ErrSilent) }), cancel: cancel,
	}
	interrupted := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	stream, err := controlv1.NewDeliveryServiceClient(s.hub).SendStream(streamCtx)
	interrupted()
	if err != nil {
		o.silence.Stop()
		cancel(nil)
		return nil, causeOr(streamCtx, err)
	}
	writes := o.writes
	o.work.Go(func() { writeRequests(stream, writes) })
	o.work.Go(func() { o.readResponses(streamCtx, stream) })
	return o, nil
}

// causeOr returns the reason for which this side ended a stream, or else err.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, dial.ErrSilent) {
		return cause
	}
	return err
}

func writeRequests(
	stream grpc.BidiStreamingClient[controlv1.SendStreamRequest, controlv1.SendStreamResponse],
	requests <-chan *controlv1.SendStreamRequest,
) {
	for request := range requests {
		if stream.Send(request) != nil {
			return // readResponses gets the error
		}
	}
	_ = stream.CloseSend()
}

func (o *sendStream) readResponses(
	ctx context.Context, stream grpc.BidiStreamingClient[controlv1.SendStreamRequest,
		controlv1.SendStreamResponse],
) {
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			o.ended <- nil
			return
		case err != nil:
			o.ended <- causeOr(ctx, err)
			return
		}
		select {
		case o.responses <- response:
		case <-ctx.Done():
			o.ended <- causeOr(ctx, ctx.Err())
			return
		}
	}
}

// closeStream ends the stream, if it has not ended, and its goroutines.
func (o *sendStream) closeStream() {
	o.silence.Stop()
	o.cancel(nil)
	o.endWrites()
	o.work.Wait()
}

// endWrites ends the writing side of the stream.
func (o *sendStream) endWrites() {
	if o.writes != nil {
		close(o.writes)
		o.writes = nil
	}
}

// runStream sends over a single stream, and returns the error that ended it.
func (s *lineSender) runStream(ctx context.Context) error {
	o, err := s.openStream(ctx)
	if err != nil {
		return err
	}
	defer o.closeStream()
	s.opened = true
	tick := time.NewTicker(terminal.ProgressEvery)
	defer tick.Stop()
	interrupted := ctx.Done()
	for err == nil {
		chunks, writes, batch := s.nextActions(o)
		select {
		case c := <-chunks:
			err = s.queueChunk(c)
		case writes <- &controlv1.SendStreamRequest{Sends: batch}:
			s.markSent(batch)
		case response := <-o.responses:
			o.expecting = o.expecting && s.stopped // begins anew
			o.leaving = o.leaving || response.GetGoingAway() != nil
			err = s.takeResponse(response)
		case err := <-o.ended:
			return err
		case now := <-tick.C:
			s.progress.ShowLines(now, s.tally.sent, s.tally.failed, s.read)
		case <-interrupted:
			interrupted = nil
			s.stopped, s.inputOver, s.queue = true, true, nil
			o.expecting = false
			o.expectAnswer(true, min(s.limit, interruptGrace))
		}
	}
	return err
}

// nextActions returns the channels that may be used now: to take input, or to write a batch. The
// rest is nil.
func (s *lineSender) nextActions(
	o *sendStream,
) (<-chan chunk, chan<- *controlv1.SendStreamRequest, []*controlv1.StreamedSend) {
	if len(s.queue)+len(s.flight)+len(s.again) == 0 {
		s.lost = time.Time{}
	}
	over := s.inputOver && len(s.queue) == 0
	if o.leaving || over {
		o.endWrites()
	}
	o.expectAnswer(len(s.flight) > 0 || o.writes == nil, s.limit)
	if o.leaving || over {
		return nil, nil, nil
	}
	if len(s.queue) == 0 {
		return s.chunks, nil, nil
	}
	batch := s.nextBatch()
	if len(batch) == 0 {
		return nil, nil, nil
	}
	return nil, o.writes, batch
}

// expectAnswer bounds the time for an answer, from the moment when an answer is expected.
func (o *sendStream) expectAnswer(answer bool, limit time.Duration) {
	switch {
	case !answer:
		o.silence.Stop()
	case !o.expecting:
		o.silence.Reset(limit)
	}
	o.expecting = answer
}
