package cli

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

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

const (
	// retryPause is the time between two tries to reach a hub after a hub has left.
	retryPause = 250 * time.Millisecond
	// interruptGrace bounds the wait for results after Ctrl-C.
	interruptGrace = time.Second
)

// lineSender sends lines over a stream, and over the next stream when the hub leaves.
//
// Problem: each line must be delivered once, and in order, though its hub may leave or die before
// it sends the result.
//
// Invariants: a line is in exactly one of queue, flight, again and tally. The lines in queue come
// after those in flight, and are in order. A line is sent again, with the same request id, only
// after its stream is over.
//
// Outline: a goroutine reads the input, and for each stream a goroutine writes and a goroutine
// reads. Everything else, sendLines and runStream, belongs to a goroutine that waits for all of
// them, so that no part blocks another.
type lineSender struct {
	// Static.
	command  *sendCmd
	hub      *dial.Client
	t        *terminal.Terminal
	base     *controlv1.SendRequest // the common part of all lines
	limit    time.Duration          // without an answer
	chunks   chan chunk
	progress *terminal.Progress

	// Owned by run.
	queue     []*controlv1.StreamedSend // to be sent
	flight    map[int64]*controlv1.StreamedSend
	again     []*controlv1.StreamedSend // refused by a leaving hub
	inputOver bool
	ioErr     error // of reading the input, or of printing results
	stopped   bool  // by Ctrl-C
	read      int64
	opened    bool      // a hub has taken a stream
	reached   bool      // a hub has answered
	lost      time.Time // since when lines wait and no hub has given a result; zero: all is well
	tally     *lineTally
}

// chunk is a part of the input.
type chunk struct {
	lines []line
	read  int64 // bytes of the input until its end
	err   error
}

func newLineSender(
	c *sendCmd, h *dial.Client, t *terminal.Terminal, base *controlv1.SendRequest,
) *lineSender {
	s := &lineSender{
		command: c, hub: h, t: t, base: base,
		limit:  max(c.Timeout, c.WaitTimeout+c.WaitTimeout/4),
		chunks: make(chan chunk), progress: t.NewProgress(t.Stdin),
		flight: map[int64]*controlv1.StreamedSend{},
		tally:  &lineTally{json: c.JSON, wait: base.GetWait()},
	}
	if base.GetRequestId() == "" {
		base.RequestId = rand.Text() // allows a line to be sent again
	}
	if base.GetWaitTimeout() == nil { // as a unary call's deadline does
		base.WaitTimeout = durationpb.New(min(dial.ServerWait, s.limit-s.limit/10))
	}
	if c.JSON && terminal.IsTerminal(t.Stdout) {
		s.progress.HideLine() // the results show the progress
	}
	return s
}

// sendLines sends until the input is over and all lines have a result.
func (s *lineSender) sendLines(ctx context.Context) error {
	ending, end := context.WithCancel(ctx)
	defer end()
	go s.readInput(ending) // ends with the input or the process: a read can't be called off
	for {
		err := s.runStream(ctx)
		s.requeueOpen()
		idle := s.isIdle(err)
		if idle { // nothing waits for a hub, so the time does not count
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
		case idle && err == nil: // the first try for the new input
		case !s.opened || !mayTryAgain(err) || time.Since(s.lost) > s.limit:
			return s.finishRun(cmp.Or(err, dial.ErrSilent))
		default:
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
		s.hub.ResetConnectBackoff()
	}
}

// isIdle reports whether a stream ended while there was nothing to send, but the input goes on.
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

// requeueOpen puts the sent lines without a result before the lines that were not sent.
func (s *lineSender) requeueOpen() {
	open := slices.AppendSeq(s.again, maps.Values(s.flight))
	slices.SortFunc(open, func(a, b *controlv1.StreamedSend) int {
		return cmp.Compare(a.GetSequence(), b.GetSequence())
	})
	s.queue, s.again = append(open, s.queue...), nil
	clear(s.flight)
}

// readInput reads lines until the input is over or ctx is done.
func (s *lineSender) readInput(ctx context.Context) {
	defer close(s.chunks)
	lines := newLineReader(s.t.Stdin)
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

// queueChunk adds a part of the input to the queue.
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
		failed := &controlv1.StreamedResult_Error{Error: status.New(codes.InvalidArgument,
			err.Error()).Proto()}
		if err := s.tellResults(&controlv1.StreamedResult{
			Sequence: one.number,
			Outcome:  failed,
		}); err != nil {
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

// sendOf turns a line into a send. Its sequence is the line's number.
func (s *lineSender) sendOf(l line) (*controlv1.StreamedSend, error) {
	if l.tooLong {
		return nil, fmt.Errorf("longer than a message may be: 1 MiB (%d bytes)", dial.MaxPayload)
	}
	m := &controlv1.Message{
		Event:    s.base.GetMessage().GetEvent(),
		Metadata: s.base.GetMessage().GetMetadata(), Ttl: s.base.GetMessage().GetTtl(),
	}
	if err := s.command.setPayload(m, l.text); err != nil {
		return nil, err
	}
	return &controlv1.StreamedSend{Sequence: l.number, Send: &controlv1.SendRequest{
		Namespace: s.base.GetNamespace(), Target: s.base.GetTarget(), Message: m,
		Wait: s.base.GetWait(), WaitTimeout: s.base.GetWaitTimeout(),
		OverflowPolicy: s.base.GetOverflowPolicy(), ConflationKey: s.base.GetConflationKey(),
		RequestId:      fmt.Sprintf("%s.%d", s.base.GetRequestId(), l.number),
		Detail:         s.base.GetDetail(),
		RequireAllHubs: s.base.GetRequireAllHubs(),
	}}, nil
}

// nextBatch returns as many of the next sends as may be written; nil if none may.
func (s *lineSender) nextBatch() []*controlv1.StreamedSend {
	most := min(len(s.queue), dial.MaxBatchLines, dial.MaxInFlight-len(s.flight))
	for i, bytes := 0, 0; i < most; i++ {
		if bytes += proto.Size(s.queue[i]); bytes >= dial.MaxBatchBytes {
			return s.queue[:i+1]
		}
	}
	return s.queue[:max(most, 0)]
}

// markSent moves a batch from the queue to the lines in flight.
func (s *lineSender) markSent(batch []*controlv1.StreamedSend) {
	for _, one := range batch {
		s.flight[one.GetSequence()] = one
	}
	s.queue = s.queue[len(batch):]
}

// takeResponse handles a response of the hub.
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

// wasRefused reports whether a hub refused a send because it is leaving or not ready. Another hub
// may take it then. HUBS_UNREACHABLE is the failure that --require-all-hubs asks for, so it is no
// such refusal.
func wasRefused(failed *spb.Status) bool {
	if codes.Code(failed.GetCode()) != codes.Unavailable {
		return false
	}
	for _, detail := range status.FromProto(failed).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok &&
			info.GetReason() == "HUBS_UNREACHABLE" {
			return false
		}
	}
	return true
}

// tellResults counts results, and prints failed lines, or with --json all results.
func (s *lineSender) tellResults(results ...*controlv1.StreamedResult) error {
	var b lineOutput
	for _, result := range results {
		s.tally.addResult(result, &b)
	}
	if len(b.stdout)+len(b.stderr) == 0 {
		return nil
	}
	s.progress.ClearLine()
	for _, text := range b.stderr {
		_, _ = fmt.Fprintf(s.t.Stderr, "%s %s\n", s.t.Err.RedText("connhub:"), text)
	}
	if _, err := s.t.Stdout.Write(b.stdout); err != nil {
		s.ioErr = fmt.Errorf("print the results: %w", err)
	}
	return s.ioErr
}

// finishRun prints the totals and returns the error of the run. cause is the reason why lines are
// left.
func (s *lineSender) finishRun(cause error) error {
	s.progress.ClearLine()
	s.tally.unanswered = int64(len(s.queue))
	if !s.command.JSON && (s.reached || cause == nil) {
		s.tally.printTotals(s.t)
	}
	if cause != nil {
		cause = s.hub.WordError(cause, s.limit)
	}
	if s.stopped {
		return context.Canceled
	}
	return cmp.Or(s.ioErr, s.tally.failureError(cause))
}
