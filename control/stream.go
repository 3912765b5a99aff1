package control

import (
	"cmp"
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/waitlist"
)

const (
	// maxBurst and maxBurstBytes bound the sends, and the bytes of their requests, that are written
	// to clients together. Each client gets the sends of a burst by a single write, and the first
	// send of a batch does not wait for all.
	maxBurst      = 32
	maxBurstBytes = 256 << 10
	// maxResponseBytes is the size from which a response is full. With a receipt more, which may
	// name all of a target, it is still below the 4 MiB that gRPC's clients take by default.
	maxResponseBytes = 1 << 20
)

// sendStreamMethod is the full method of a SendStream.
const sendStreamMethod = controlv1.DeliveryService_SendStream_FullMethodName

// streamService is deliveryService and its stream.
type streamService struct {
	*deliveryService
	guard   *port.Guard
	metrics *metrics
	check   func(proto.Message) error // the rules of the protos
}

// SendStream implements the RPC.
func (d *streamService) SendStream(
	stream grpc.BidiStreamingServer[controlv1.SendStreamRequest, controlv1.SendStreamResponse],
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	s := &sendStream{
		service: d, stream: stream, ctx: ctx,
		from: originOf(ctx), answers: newAnswers(port.AccountOf(ctx)),
	}
	s.awaited = waitlist.New[begun](s.answers.signalNews)
	defer s.awaited.End()
	defer s.answers.closeAndWait(cancel)
	go s.receiveSends()
	return s.sendReports()
}

// sendStream is a call of SendStream.
//
// Problem: sends begin in order, each after the last. Their results come in any order and at any
// time. The backend may read them late or never. The hub may leave in between.
//
// Invariants: between two sends of a stream it waits only for room (answers.admitSend). A taken
// send is accepted, and has a single answer. No send is taken after the backend was told that the
// hub leaves. The stream does not touch the hub once SendStream has returned.
//
// Outline: receiveSends, in a goroutine of its own, takes sends and begins them. A list awaits the
// results that are not due yet. sendReports, the handler, sends the reports: while it is busy with
// a response, the results for the next response gather. receiveSends ends when the stream does,
// because gRPC's Recv can't be called off otherwise.
type sendStream struct {
	// Static.
	service *streamService
	stream  grpc.BidiStreamingServer[controlv1.SendStreamRequest, controlv1.SendStreamResponse]
	ctx     context.Context
	from    origin // of all sends
	answers *answers
	awaited *waitlist.List[begun] // the sends whose results are not due yet

	// Owned by receive.
	last  int64 // the last sequence
	burst hub.Burst
	begun []begun // the sends of burst
	bytes int     // of their requests

	// Owned by tell.
	told     int64 // the highest accepted
	farewell bool  // the backend was told that the hub leaves
}

// begun is a taken send that has begun, or failed with err. It is not accepted yet.
type begun struct {
	sequence int64
	bytes    int
	sending  *sending
	err      error
}

// receiveSends takes sends until there are no more, or no more may be taken.
func (s *sendStream) receiveSends() {
	for {
		request, err := s.nextRequest()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			s.answers.finishSends(err)
			return
		}
		if !s.takeBatch(request.GetSends()) {
			return
		}
	}
}

// nextRequest returns the next request, or an error if it breaks a rule of the stream.
func (s *sendStream) nextRequest() (*controlv1.SendStreamRequest, error) {
	request := &controlv1.SendStreamRequest{}
	if err := port.Receive(s.stream, request); err != nil {
		return nil, err
	}
	var err error
	s.last, err = form.CheckBatch(request.GetSends(), s.last)
	return request, err
}

// takeBatch takes sends in their order. It reports false if no more sends are taken.
func (s *sendStream) takeBatch(sends []*controlv1.StreamedSend) bool {
	if len(sends) > 1 {
		s.answers.holdNews(true)
		defer s.answers.holdNews(false)
	}
	defer s.flushBurst()
	for _, one := range sends {
		if !s.takeSend(one) {
			return false
		}
		if len(s.begun) >= maxBurst || s.bytes >= maxBurstBytes {
			s.flushBurst()
		}
	}
	return true
}

// takeSend takes a send and begins it. It reports false if no more sends are taken.
func (s *sendStream) takeSend(one *controlv1.StreamedSend) bool {
	bytes := requestWeight(one.GetSend())
	if s.answers.mustWait(bytes) {
		s.flushBurst() // the burst must not hold room that it waits for
	}
	taken, over := s.answers.admitSend(s.ctx, bytes)
	if !taken {
		return false
	}
	s.service.metrics.sends.Inc()
	var sending *sending
	var err error
	if over {
		err = s.answers.account.Refuse()
	} else {
		sending, err = s.beginChecked(one.GetSend())
	}
	s.begun = append(s.begun, begun{one.GetSequence(), bytes, sending, err})
	s.bytes += bytes
	return true
}

// flushBurst has the clients' links write, and accepts the begun sends, with the results that are
// due.
func (s *sendStream) flushBurst() {
	s.burst.Flush()
	for _, b := range s.begun {
		switch {
		case b.err != nil:
			s.answers.acceptSend(b.sequence, answer{s.failedResult(b.sequence, b.err), b.bytes})
		case b.sending.isDue():
			s.answers.acceptSend(b.sequence, answer{s.awaitResult(b.sequence, b.sending), b.bytes})
		default:
			s.answers.acceptSend(b.sequence)
			s.awaited.Add(b, b.sending.dueAt(), b.sending.callWhenDue)
		}
		s.answers.work.Done()
	}
	clear(s.begun)
	s.begun, s.bytes = s.begun[:0], 0
}

// answerArrived adds the results of the awaited sends that are due now.
func (s *sendStream) answerArrived() {
	for _, one := range s.awaited.TakeArrived() {
		s.answers.addLateAnswer(answer{s.awaitResult(one.sequence, one.sending), one.bytes})
	}
}

// beginChecked begins a send as a unary Send does: its rules, then deliveryService.beginSend.
func (s *sendStream) beginChecked(req *controlv1.SendRequest) (_ *sending, err error) {
	defer s.recoverPanic(&err)
	if err := s.service.check(req); err != nil {
		return nil, err
	}
	return s.service.beginSend(s.ctx, req, s.from, &s.burst)
}

// awaitResult waits for the receipt of a send.
func (s *sendStream) awaitResult(sequence int64, of *sending) *controlv1.StreamedResult {
	receipt, err := s.awaitReceipt(of)
	if err != nil {
		return s.failedResult(sequence, err)
	}
	var r struct { // a single allocation
		result  controlv1.StreamedResult
		outcome controlv1.StreamedResult_Receipt
	}
	r.outcome.Receipt = receipt
	r.result.Sequence, r.result.Outcome = sequence, &r.outcome
	return &r.result
}

func (s *sendStream) awaitReceipt(of *sending) (_ *controlv1.Receipt, err error) {
	defer s.recoverPanic(&err)
	return of.Receipt(s.ctx)
}

// failedResult returns the result of a failed send, with the status of a unary Send.
func (s *sendStream) failedResult(sequence int64, err error) *controlv1.StreamedResult {
	st := status.Convert(s.service.guard.AnswerError(sendStreamMethod, err))
	return &controlv1.StreamedResult{
		Sequence: sequence, Outcome: &controlv1.StreamedResult_Error{Error: st.Proto()},
	}
}

// recoverPanic turns a panic into an error. The guard can't: it recovers only in the handler's
// goroutine.
func (s *sendStream) recoverPanic(err *error) {
	if p := recover(); p != nil {
		*err = port.Answered(s.service.guard.AnswerPanic(sendStreamMethod, p))
	}
}

// sendReports sends reports until the last.
func (s *sendStream) sendReports() error {
	leaving := s.service.guard.Leaving()
	var spare []answer
	for {
		s.answerArrived()
		r := s.answers.collectReport(spare)
		if err := s.sendReport(&r); err != nil {
			return cmp.Or(s.ctx.Err(), port.Answered(err))
		}
		if r.last {
			return s.answers.endError()
		}
		clear(r.answers)
		spare = r.answers
		select {
		case <-s.answers.news:
		case <-leaving:
			leaving = nil
			s.answers.stopTaking()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// sendReport sends the news of a report, in as many responses as needed.
func (s *sendStream) sendReport(r *report) error {
	rest := r.answers
	for len(rest) > 0 || r.accepted > s.told || r.leaving && !s.farewell {
		response := &controlv1.SendStreamResponse{Accepted: r.accepted}
		if r.leaving && !s.farewell {
			response.GoingAway = &controlv1.GoingAway{LastAccepted: r.accepted}
		}
		n, bytes := 0, 0
		for ; n < len(rest) && bytes < maxResponseBytes; n++ {
			bytes += responseSize(rest[n].result)
		}
		response.Results = make([]*controlv1.StreamedResult, n)
		for i := range n {
			response.Results[i] = rest[i].result
		}
		if err := s.stream.Send(response); err != nil {
			return err
		}
		s.told, s.farewell = r.accepted, r.leaving
		s.answers.markTold(rest[:n])
		s.service.metrics.countResults(response.Results)
		rest = rest[n:]
	}
	return nil
}

// maxCountsBytes bounds the bytes of a result in a response, without its texts.
const maxCountsBytes = 256

// responseSize returns an upper bound of the bytes of a result in a response. It measures only
// results that may be large.
func responseSize(r *controlv1.StreamedResult) int {
	receipt := r.GetReceipt()
	if receipt == nil || receipt.GetUnmatched() != nil || len(receipt.GetUnreachableHubs()) > 0 {
		return proto.Size(r)
	}
	return maxCountsBytes + len(receipt.GetMessageId())
}

// nameOverhead is the memory of a name beside its bytes.
const nameOverhead = 16

// requestWeight returns about the bytes of a request in memory. The fields that it leaves out are
// small.
func requestWeight(req *controlv1.SendRequest) int {
	_, payload := form.PayloadOf(req.GetMessage())
	bytes := len(payload)
	target, except := req.GetTarget(), req.GetTarget().GetExcept()
	for _, names := range [...][]string{
		target.GetConnections(), target.GetUsers(), target.GetGroups(),
		except.GetConnections(), except.GetUsers(), except.GetGroups(),
	} {
		for _, name := range names {
			bytes += len(name) + nameOverhead
		}
	}
	return bytes
}
