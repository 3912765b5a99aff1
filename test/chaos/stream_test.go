package chaos

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/chaos/verdict"
)

const (
	windowOfStream = 12 // sends without a result
	mostBatch      = 3
	// silenceOfStream ends a stream whose hub gives no result.
	silenceOfStream = 6 * time.Second
	// longestStream bounds a stream, so that a caller comes to all hubs.
	longestStream = 4 * time.Second
)

// streamed is a send of a stream, which may need a further stream.
type streamed struct {
	number int
	target verdict.Target
	wait   controlv1.Wait
}

// streamAll sends on stream after stream until the context ends. Sends without a result go on
// the next stream, in their order and with their request ids.
func (c *caller) streamAll(ctx context.Context) {
	var due []streamed
	for ctx.Err() == nil {
		due = c.useStream(ctx, due)
		pause(ctx, retryAfter)
	}
	for range mostAttempts {
		if len(due) == 0 {
			return
		}
		due = c.useStream(ctx, due)
		pause(context.Background(), retryAfter)
	}
}

// sendStream is a stream of a caller.
type sendStream struct {
	caller  *caller
	number  int
	hub     *hub
	results chan struct{} // has a token for each send without a result

	// Owned by the receiver until it has ended.
	outcomes map[int]verdict.Outcome // by number of the send
	accepted int                     // the last sequence that the hub accepts; negative: all

	mu   sync.Mutex
	sent []streamed // by sequence, from 1
}

// useStream sends the due sends, and new ones until the stream has had its time. It returns the
// sends that have no result.
func (c *caller) useStream(ctx context.Context, due []streamed) []streamed {
	s := &sendStream{
		caller: c, number: c.run.record.nextNumber(&c.run.record.streams), hub: c.pickHub(),
		results: make(chan struct{}, windowOfStream), outcomes: map[int]verdict.Outcome{},
		accepted: -1,
	}
	life, cancel := context.WithCancel(context.Background())
	defer cancel()
	watch := time.AfterFunc(silenceOfStream, cancel)
	defer watch.Stop()
	stream, err := controlv1.NewDeliveryServiceClient(s.hub.backends[c.number]).SendStream(life)
	if err != nil {
		return due
	}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		defer cancel()
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			watch.Reset(silenceOfStream)
			s.takeResults(response)
		}
	})
	unsent := s.sendAll(ctx, life, stream, due)
	_ = stream.CloseSend() // a stream that is over has nothing to close
	receiving.Wait()
	return append(s.takeRest(), unsent...)
}

// sendAll writes sends until the stream has had its time or is over. It returns the due sends that
// it did not write.
func (s *sendStream) sendAll(
	ctx, life context.Context, stream controlv1.DeliveryService_SendStreamClient, due []streamed,
) (unsent []streamed) {
	c := s.caller
	until := time.Now().Add(milliseconds(c.random, 100, int(longestStream.Milliseconds())))
	sequence := int64(0)
	for len(due) > 0 || ctx.Err() == nil && time.Now().Before(until) {
		batch := &controlv1.SendStreamRequest{}
		for range 1 + c.random.IntN(mostBatch) {
			select {
			case s.results <- struct{}{}:
			case <-life.Done():
				return due
			}
			var next streamed
			next, due = s.nextSend(due)
			sequence++
			s.begin(next)
			batch.Sends = append(batch.Sends, &controlv1.StreamedSend{
				Sequence: sequence, Send: newRequest(next.number, next.target, next.wait),
			})
			if ctx.Err() != nil && len(due) == 0 {
				break
			}
		}
		if err := stream.Send(batch); err != nil {
			return due
		}
		pause(life, milliseconds(c.random, 0, callEvery))
	}
	return nil
}

// nextSend takes the first due send, or makes a new send.
func (s *sendStream) nextSend(due []streamed) (next streamed, rest []streamed) {
	if len(due) > 0 {
		return due[0], due[1:]
	}
	record := s.caller.run.record
	return streamed{
		record.nextNumber(&record.sends), s.caller.drawTarget(), s.caller.drawWait(),
	}, nil
}

// begin records an attempt.
func (s *sendStream) begin(next streamed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, next)
	s.caller.run.record.add(verdict.Event{
		Kind: verdict.Sent, Send: next.number, Caller: s.caller.number, Stream: s.number,
		Hub: s.hub.Hub, Target: next.target,
	})
}

// takeResults records the results of sends. Sequences count the sends of the stream from 1.
func (s *sendStream) takeResults(response *controlv1.SendStreamResponse) {
	if away := response.GetGoingAway(); away != nil {
		s.accepted = int(away.GetLastAccepted())
	}
	for _, result := range response.GetResults() {
		s.mu.Lock()
		number := s.sent[result.GetSequence()-1].number
		s.mu.Unlock()
		e := verdict.Event{Kind: verdict.Answered, Send: number, Hub: s.hub.Hub}
		if failed := result.GetError(); failed != nil {
			e.Outcome = outcomeOfStatus(status.FromProto(failed))
		} else {
			e.Outcome, e.Receipt = verdict.Succeeded, newReceipt(result.GetReceipt())
		}
		s.caller.run.record.add(e)
		s.outcomes[number] = e.Outcome
		<-s.results
	}
}

// takeRest ends the sends that have no result. It returns them and those that failed.
func (s *sendStream) takeRest() (due []streamed) {
	for i, next := range s.sent {
		outcome, isAnswered := s.outcomes[next.number]
		if outcome == verdict.Succeeded {
			continue
		}
		due = append(due, next)
		if isAnswered {
			continue
		}
		if s.accepted >= 0 && i >= s.accepted {
			outcome = verdict.Declined
		}
		s.caller.run.record.add(verdict.Event{
			Kind: verdict.Answered, Send: next.number, Hub: s.hub.Hub, Outcome: outcome,
		})
	}
	return due
}
