package control

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/expected"
	"github.com/connhub/connhub/internal/waitlist"
)

// maxResponseBytes is the size from which a response is full. With a receipt more, which may name
// all of a target, it is still below the 4 MiB that gRPC's clients take by default.
const maxResponseBytes = 1 << 20

// sendStreamMethod is the full method of a SendStream.
const sendStreamMethod = controlv1.DeliveryService_SendStream_FullMethodName

// streamService is deliveryService and its stream.
type streamService struct {
	*deliveryService
	guard    *port.Guard
	metrics  *metrics
	check    func(proto.Message) error // the rules of the protos
	expected *expected.Sends           // of all streams
}

// SendStream implements the RPC.
func (d *streamService) SendStream(
	stream grpc.BidiStreamingServer[controlv1.SendStreamRequest, controlv1.SendStreamResponse],
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	s := &sendStream{
		service: d, stream: stream, ctx: ctx,
		from: sourceCallOf(ctx), answers: newAnswers(port.AccountOf(ctx)),
		expects: d.expected.NewStream(),
	}
	s.queue.turn = make(chan struct{}, 1)
	s.awaited = waitlist.New[begunSend](s.answers.signalNews)
	s.answers.beforeWait = func() { s.passSends(true) }
	defer s.awaited.End()
	defer s.answers.closeAndWait(cancel)
	defer s.expects.End()
	defer s.leaveSends()
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
// Outline: receiveSends, in a goroutine of its own, takes sends and begins them. sendReports, the
// handler, has the clients' links write for those that have gathered (burstQueue), and sends the
// reports. While it is busy, sends and results gather for the next write and response. A list
// awaits the results that are not due yet. receiveSends ends when the stream does, because gRPC's
// Recv can't be called off otherwise.
type sendStream struct {
	// Static.
	service *streamService
	stream  grpc.BidiStreamingServer[controlv1.SendStreamRequest, controlv1.SendStreamResponse]
	ctx     context.Context
	from    sourceCall // of all sends
	answers *answers
	awaited *waitlist.List[begunSend] // the sends whose results are not due yet
	expects *expected.Stream          // the sends of this stream in service.expected

	// queue has the sends that have begun and are not accepted, but those of filling.
	queue burstQueue

	// Owned by receiveSends.
	last    int64     // the last sequence
	filling *burst    // of the current request; nil: no send has begun
	queued  burstSize // of queue, or more

	// Owned by sendReports.
	told     int64 // the highest accepted
	farewell bool  // the backend was told that the hub leaves

	due []sendAnswer // of a burst; guarded by queue.turn; empty while that is free
}

// begunSend is a taken send that has begun, or failed with err. It is not accepted yet.
type begunSend struct {
	sequence int64
	bytes    int
	sending  *activeSend
	err      error
}

// receiveSends takes sends until there are no more, or no more may be taken.
func (s *sendStream) receiveSends() {
	for {
		request, err := s.nextRequest()
		if err != nil {
			s.expects.End()
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
	defer s.passSends(false)
	for _, one := range sends {
		if !s.takeSend(one) {
			return false
		}
		if s.queued.plus(s.filling.size()).isFull() {
			s.passSends(false)
		}
	}
	return true
}

// takeSend takes a send and begins it. It reports false if no more sends are taken.
func (s *sendStream) takeSend(one *controlv1.StreamedSend) bool {
	bytes := requestWeight(one.GetSend())
	taken, over := s.answers.admitSend(s.ctx, bytes)
	if !taken {
		return false
	}
	s.service.metrics.sends.Inc()
	if s.filling == nil {
		s.filling = newBurst()
	}
	var sending *activeSend
	var err error
	if over {
		err = s.answers.account.Refuse()
	} else {
		sending, err = s.beginChecked(one.GetSend())
	}
	s.filling.begun = append(s.filling.begun, begunSend{one.GetSequence(), bytes, sending, err})
	s.filling.bytes += bytes
	return true
}

// passSends leaves the begun sends to the handler, or has them written if the handler will not.
// With all it has every begun send written, because the receiver is about to wait for room: they
// must not hold room that it waits for.
func (s *sendStream) passSends(all bool) {
	must := all
	if b := s.filling; b != nil {
		s.filling = nil
		var mine bool
		begun := len(b.begun)
		s.queued, mine = s.queue.addBurst(b)
		s.expects.NoteBegun(begun)
		if must = all || mine; !must {
			s.answers.signalNews()
		}
	}
	if must {
		s.flushSends()
		s.queued = burstSize{}
	}
}

// flushSends has the clients' links write for the sends that have gathered, and accepts these, with
// the results that are due.
func (s *sendStream) flushSends() {
	q := &s.queue
	q.turn <- struct{}{}
	defer func() { <-q.turn }()
	if b := q.takeBurst(); b != nil {
		// The handler may outlive a panic of a protocol, and then waits for all taken sends. The
		// receiver does not: such a panic ends the process.
		defer s.acceptSends(b)
		b.links.Flush()
	}
}

// acceptSends accepts the sends of a written burst, and recycles it. The caller must hold
// queue.turn.
func (s *sendStream) acceptSends(of *burst) {
	var late []begunSend
	for _, b := range of.begun {
		switch {
		case b.err != nil:
			s.due = append(s.due, sendAnswer{s.failedResult(b.sequence, b.err), b.bytes})
		case b.sending.isDue():
			s.due = append(s.due, sendAnswer{s.awaitResult(b.sequence, b.sending), b.bytes})
		default:
			late = append(late, b)
		}
	}
	n := len(of.begun)
	s.answers.acceptSends(of.begun[n-1].sequence, n, s.due...)
	for _, b := range late {
		b.sending.asked = true // the result may be taken before Add has called callWhenDue
		s.awaited.Add(b, b.sending.dueAt(), b.sending.callWhenDue)
	}
	s.answers.work.Add(-n)
	clear(s.due)
	if s.due = s.due[:0]; cap(s.due) > leastBurst { // as in sendReports
		s.due = nil
	}
	of.recycleBurst()
}

// answerArrived adds the results of the awaited sends that are due now.
func (s *sendStream) answerArrived() {
	for _, one := range s.awaited.TakeArrived() {
		s.answers.addLateAnswer(sendAnswer{s.awaitResult(one.sequence, one.sending), one.bytes})
	}
}

// beginChecked begins a send as a unary Send does: its rules, then deliveryService.beginSend.
func (s *sendStream) beginChecked(req *controlv1.SendRequest) (_ *activeSend, err error) {
	defer s.recoverPanic(&err)
	if err := s.service.check(req); err != nil {
		return nil, err
	}
	return s.service.beginSend(s.ctx, req, s.from, &s.filling.links)
}

// awaitResult waits for the receipt of a send, which must not be used any more then.
func (s *sendStream) awaitResult(sequence int64, of *activeSend) *controlv1.StreamedResult {
	var r struct { // a single allocation
		result  controlv1.StreamedResult
		outcome controlv1.StreamedResult_Receipt
		receipt controlv1.Receipt
	}
	of.into = &r.receipt
	receipt, err := s.awaitReceipt(of)
	if err != nil {
		return s.failedResult(sequence, err)
	}
	of.recycleSend()
	r.outcome.Receipt = receipt
	r.result.Sequence, r.result.Outcome = sequence, &r.outcome
	return &r.result
}

func (s *sendStream) awaitReceipt(of *activeSend) (_ *controlv1.Receipt, err error) {
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

// sendReports writes sends and sends reports, until the last report.
func (s *sendStream) sendReports() error {
	leaving := s.service.guard.Leaving()
	var spare []sendAnswer
	for {
		s.leaveSends()
		s.answers.takeNews() // the report has them all
		s.answerArrived()
		r := s.answers.collectReport(spare)
		if err := s.sendReport(&r); err != nil {
			return cmp.Or(s.ctx.Err(), port.Answered(err))
		}
		if r.last {
			return s.answers.endError()
		}
		spare = nil
		if cap(r.answers) <= leastBurst { // the stream may rest now, and then must hold little
			clear(r.answers)
			spare = r.answers
		}
		s.queue.attend()
		select {
		case <-s.answers.news:
			s.awaitMore()
		case <-leaving:
			leaving = nil
			s.answers.stopTaking()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// leaveSends has the gathered sends written, and leaves further sends to the receiver. Sends that
// gather during the write are written too, but no more than once: results wait meanwhile.
func (s *sendStream) leaveSends() {
	s.flushSends()
	if s.queue.unattend() {
		s.flushSends()
	}
}

// awaitMore waits a moment for more sends, of this stream and others, if the gathered ones cause
// many writes and service.expected has some.
func (s *sendStream) awaitMore() {
	wait := s.queue.worthWaiting()
	if wait == 0 {
		return
	}
	more := s.service.expected.Await()
	if more.Complete == nil {
		return
	}
	enough := time.NewTimer(wait)
	defer enough.Stop()
	for s.queue.worthWaiting() > 0 {
		select {
		case <-s.answers.news:
		case <-more.Complete:
			return
		case <-enough.C:
			more.GiveUp()
			return
		case <-s.ctx.Done():
			return
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
		n, bytes, large := 0, 0, 0
		for ; n < len(rest) && bytes < maxResponseBytes; n++ {
			bytes += responseSize(rest[n].result)
			if rest[n].result.GetReceipt().GetMatched() >= manyWrites {
				large++
			}
		}
		response.Results = make([]*controlv1.StreamedResult, n)
		for i := range n {
			response.Results[i] = rest[i].result
		}
		if large > 0 {
			s.expects.Expect(large)
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
