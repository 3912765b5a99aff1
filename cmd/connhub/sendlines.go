package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// maxInFlight is the most lines without a result: as many as a hub takes of a stream. It bounds what is kept to be
	// sent again.
	maxInFlight = 1000
	// maxBatchBytes is when a batch is full. With one more line it is below the 4 MiB that a hub always takes.
	maxBatchBytes = 1 << 20
	// maxBatchLines is the most sends that a hub takes in a batch.
	maxBatchLines = 1000
	// retryPause is between two tries to reach a hub after one has left.
	retryPause = 250 * time.Millisecond
	// interruptGrace is how long results of what was sent are waited for after Ctrl-C.
	interruptGrace = time.Second
	// serverWait is how long a hub waits when a send does not say.
	serverWait = 5 * time.Second
)

// errSilent is why a stream is ended on which no answer comes.
var errSilent = status.Error(codes.DeadlineExceeded, "no answer")

// lineSender sends lines over a stream, and over the next one when the hub leaves.
//
// Problem: a line must be delivered once, and in order, though the hub that has it may leave or die before it tells what
// became of it.
//
// Invariants: a line is in exactly one of queue, flight, again and tally. Those in queue come after those in flight, and
// are in order. Lines are sent again, with the request id that they had, only when their stream is over.
//
// Outline: one goroutine reads the input, and per stream one writes and one reads; everything else, run and stream, is
// one goroutine's that waits for all of them, so that nothing blocks anything else.
type lineSender struct {
	// Static.
	command  *sendCmd
	hub      *client
	t        *terminal
	base     *controlv1.SendRequest // what all lines have in common
	limit    time.Duration          // without an answer
	chunks   chan chunk
	progress *progress

	// Owned by run.
	queue     []*controlv1.StreamedSend // to be sent
	flight    map[int64]*controlv1.StreamedSend
	again     []*controlv1.StreamedSend // the hub was leaving when it looked at them
	inputOver bool
	ioErr     error // of reading the input, or of printing results
	stopped   bool  // by Ctrl-C
	read      int64
	opened    bool      // a hub has taken a stream
	reached   bool      // a hub has answered
	lost      time.Time // since when there are lines and no hub has given a result; zero: all is well
	tally     *lineTally
}

// chunk is some of the input.
type chunk struct {
	lines []line
	read  int64 // bytes of the input until its end
	err   error
}

func newLineSender(c *sendCmd, h *client, t *terminal, base *controlv1.SendRequest) *lineSender {
	s := &lineSender{
		command: c, hub: h, t: t, base: base,
		limit:  max(c.Timeout, c.WaitTimeout+c.WaitTimeout/4),
		chunks: make(chan chunk), progress: t.newProgress(t.stdin),
		flight: map[int64]*controlv1.StreamedSend{},
		tally:  &lineTally{json: c.JSON, wait: base.GetWait()},
	}
	if base.GetRequestId() == "" {
		base.RequestId = rand.Text() // so that a line may be sent again
	}
	if base.GetWaitTimeout() == nil { // as a unary call's deadline does
		base.WaitTimeout = durationpb.New(min(serverWait, s.limit-s.limit/10))
	}
	if c.JSON && isTerminal(t.stdout) {
		s.progress.out = nil // the results are to be seen there
	}
	return s
}

// sendLines sends until the input is over and all is answered.
func (s *lineSender) sendLines(ctx context.Context) error {
	ending, end := context.WithCancel(ctx)
	defer end()
	go s.readInput(ending) // ends with the input or the process: a read can't be called off
	for {
		err := s.runStream(ctx)
		s.requeueOpen()
		idle := s.isIdle(err)
		if idle { // whatever time passes, nothing waits for a hub
			s.lost, err = time.Time{}, s.awaitInput(ctx)
		} else if s.lost.IsZero() {
			s.lost = time.Now()
		}
		switch {
		case s.inputOver && len(s.queue) == 0:
			return s.finishRun(nil)
		case ctx.Err() != nil:
			s.stopped = true
			return s.finishRun(nil)
		case idle && err == nil: // the first try for what has come
		case !s.opened || !mayTryAgain(err) || time.Since(s.lost) > s.limit:
			return s.finishRun(cmp.Or(err, errSilent))
		default:
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
		s.hub.ResetConnectBackoff()
	}
}

// isIdle reports whether a stream ended when there was nothing to send, and there may be later.
func (s *lineSender) isIdle(err error) bool {
	return s.opened && mayTryAgain(err) && len(s.queue) == 0 && !s.inputOver
}

// awaitInput takes input until there is something to send, the input is over or ctx is done.
func (s *lineSender) awaitInput(ctx context.Context) error {
	for len(s.queue) == 0 && !s.inputOver {
		select {
		case c := <-s.chunks:
			if err := s.queueChunk(c); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// mayTryAgain reports whether a stream ended because its hub leaves or is gone.
func mayTryAgain(err error) bool { return err == nil || status.Code(err) == codes.Unavailable }

// requeueOpen puts what has no result yet before what was not sent.
func (s *lineSender) requeueOpen() {
	open := slices.AppendSeq(s.again, maps.Values(s.flight))
	slices.SortFunc(open, func(a, b *controlv1.StreamedSend) int { return cmp.Compare(a.GetSequence(), b.GetSequence()) })
	s.queue, s.again = append(open, s.queue...), nil
	clear(s.flight)
}

// readInput reads lines until the input is over or ctx is done.
func (s *lineSender) readInput(ctx context.Context) {
	defer close(s.chunks)
	lines := newLineReader(s.t.stdin)
	for {
		some, err := lines.nextLines()
		select {
		case s.chunks <- chunk{some, lines.bytes, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// queueChunk takes a part of the input into the queue.
func (s *lineSender) queueChunk(c chunk) error {
	s.read = c.read
	for _, one := range c.lines {
		if len(one.text) == 0 && !one.tooLong {
			continue
		}
		send, err := s.sendOf(one)
		if err == nil {
			s.queue = append(s.queue, send)
			continue
		}
		failed := &controlv1.StreamedResult_Error{Error: status.New(codes.InvalidArgument, err.Error()).Proto()}
		if err := s.tellResults(&controlv1.StreamedResult{Sequence: one.number, Outcome: failed}); err != nil {
			return err
		}
	}
	if c.err != nil {
		s.inputOver = true
		if !errors.Is(c.err, io.EOF) {
			s.ioErr = fmt.Errorf("read standard input: %w", c.err)
		}
	}
	return nil
}

// sendOf makes a line a send. Its sequence is the line's number.
func (s *lineSender) sendOf(l line) (*controlv1.StreamedSend, error) {
	if l.tooLong {
		return nil, fmt.Errorf("longer than a message may be: 1 MiB (%d bytes)", hub.MaxPayload)
	}
	m := &controlv1.Message{Event: s.base.GetMessage().GetEvent(), Metadata: s.base.GetMessage().GetMetadata(), Ttl: s.base.GetMessage().GetTtl()}
	if err := s.command.setPayload(m, l.text); err != nil {
		return nil, err
	}
	return &controlv1.StreamedSend{Sequence: l.number, Send: &controlv1.SendRequest{
		Namespace: s.base.GetNamespace(), Target: s.base.GetTarget(), Message: m,
		Wait: s.base.GetWait(), WaitTimeout: s.base.GetWaitTimeout(),
		OverflowPolicy: s.base.GetOverflowPolicy(), ConflationKey: s.base.GetConflationKey(),
		RequestId: fmt.Sprintf("%s.%d", s.base.GetRequestId(), l.number), Detail: s.base.GetDetail(),
		RequireAllHubs: s.base.GetRequireAllHubs(),
	}}, nil
}

// nextBatch returns the next sends, as many as may go; nil: none.
func (s *lineSender) nextBatch() []*controlv1.StreamedSend {
	most := min(len(s.queue), maxBatchLines, maxInFlight-len(s.flight))
	for i, bytes := 0, 0; i < most; i++ {
		if bytes += proto.Size(s.queue[i]); bytes >= maxBatchBytes {
			return s.queue[:i+1]
		}
	}
	return s.queue[:max(most, 0)]
}

// markSent says that a batch is with the stream.
func (s *lineSender) markSent(batch []*controlv1.StreamedSend) {
	for _, one := range batch {
		s.flight[one.GetSequence()] = one
	}
	s.queue = s.queue[len(batch):]
}

// takeResponse takes a response.
func (s *lineSender) takeResponse(response *controlv1.SendStreamResponse) error {
	s.reached = true
	var known []*controlv1.StreamedResult
	for _, result := range response.GetResults() {
		send, ok := s.flight[result.GetSequence()]
		if !ok {
			continue
		}
		delete(s.flight, result.GetSequence())
		if wasRefused(result.GetError()) {
			s.again = append(s.again, send)
			continue
		}
		known = append(known, result)
	}
	if len(known) > 0 {
		s.lost = time.Time{}
	}
	return s.tellResults(known...)
}

// wasRefused reports whether a hub did not take a send because it is leaving or not ready, so that another one may. Hubs
// that can't be reached are no such case: that is what --require-all-hubs asks to be told.
func wasRefused(failed *spb.Status) bool {
	if codes.Code(failed.GetCode()) != codes.Unavailable {
		return false
	}
	for _, detail := range status.FromProto(failed).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == "HUBS_UNREACHABLE" {
			return false
		}
	}
	return true
}

// tellResults counts results, and prints those that are to be seen.
func (s *lineSender) tellResults(results ...*controlv1.StreamedResult) error {
	var b lineOutput
	for _, result := range results {
		s.tally.addResult(result, &b)
	}
	if len(b.stdout)+len(b.stderr) == 0 {
		return nil
	}
	s.progress.clearLine()
	for _, text := range b.stderr {
		_, _ = fmt.Fprintf(s.t.stderr, "%s %s\n", s.t.err.redText("connhub:"), text)
	}
	if _, err := s.t.stdout.Write(b.stdout); err != nil {
		s.ioErr = fmt.Errorf("print the results: %w", err)
	}
	return s.ioErr
}

// finishRun says what has become of all lines. cause is why not all were sent.
func (s *lineSender) finishRun(cause error) error {
	s.progress.clearLine()
	s.tally.unanswered = int64(len(s.queue))
	if !s.command.JSON && (s.reached || cause == nil) {
		s.tally.printTotals(s.t)
	}
	if cause != nil {
		cause = s.hub.callError(cause, s.limit)
	}
	if s.stopped {
		return context.Canceled
	}
	return cmp.Or(s.ioErr, s.tally.failureError(cause))
}
