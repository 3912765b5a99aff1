package mesh

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/control/mesh/moving"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/waitlist"
)

// maxBurst is the most sends that are written to clients together. It bounds the delay of the
// first.
const maxBurst = 32

// inLane is a lane that a peer opened. A goroutine executes the calls in order, and a second
// goroutine sends the results. Calls that wait for clients or hubs are entries in a list. The
// handler waits for both goroutines. When the link ends it releases the lane.
type inLane struct {
	// Static.
	link     *inLink
	executor Executor
	number   int // of the lane
	answers  *laneAnswers

	// turn is a lock with room for a single holder. executeRequest holds it for each message, and
	// serveLane takes it for good at the end. It guards the fields below.
	turn     chan struct{}
	sequence uint64
	burst    hub.Burst
	started  []startedCall           // executed calls whose clients' bytes wait in burst
	due      []*peerv1.ForwardResult // memory of flushBurst
}

// startedCall is an executed call without a result so far.
type startedCall struct {
	Execution
	sequence uint64
}

// numberedResult returns the result with its sequence. It is called once the result is due.
func (b *startedCall) numberedResult() *peerv1.ForwardResult {
	r := b.Result()
	r.Sequence = b.sequence
	return r
}

func newInLane(l *inLink, e Executor, number int) *inLane {
	return &inLane{
		link: l, executor: e, number: number,
		turn: make(chan struct{}, 1), answers: newLaneAnswers(l.batches),
	}
}

// serveLane returns the cause for which the lane ended. From then on the lane executes no call, and
// no call of it waits.
func (i *inLane) serveLane(stream peerv1.PeerService_DataServer) error {
	defer func() { i.turn <- struct{}{} }() // taken for good
	defer i.answers.waits.End()
	ctx := i.link.ctx
	ended := make(chan error, 2)
	// Ends with the link; a blocked Send ends with the stream.
	go func() { ended <- i.answers.writeResponses(ctx, stream) }()
	go func() { ended <- i.readRequests(stream) }() // ends with the stream
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readRequests executes the messages of the stream.
func (i *inLane) readRequests(stream peerv1.PeerService_DataServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return errHungUp
		}
		if err := i.executeRequest(r); err != nil {
			return err
		}
	}
}

// executeRequest executes the calls in a message. If a call breaks a rule, the calls before it
// still count.
func (i *inLane) executeRequest(r *peerv1.DataRequest) error {
	// A message that waited in the socket while the process stood still may be meant for a hub that
	// is over.
	i.link.mesh.checkStandstill()
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-i.link.ctx.Done():
		return context.Cause(i.link.ctx)
	}
	defer i.flushBurst()
	switch body := r.GetBody().(type) {
	case *peerv1.DataRequest_Batch:
		forwards := body.Batch.GetForwards()
		if n := len(forwards); n == 0 || n > maxBatch {
			return fmt.Errorf("%w: a batch of %d forwards", core.ErrViolation, n)
		}
		return i.startForwards(forwards)
	case *peerv1.DataRequest_Mark:
		return i.takeMark(move.Mark, body.Mark)
	case *peerv1.DataRequest_Settled:
		return i.takeMark(move.Settled, body.Settled)
	default:
		return i.startForwards([]*peerv1.Forward{r.GetForward()})
	}
}

// takeMark tells the move core of a mark of the peer.
func (i *inLane) takeMark(kind move.Kind, name *peerv1.MoveName) error {
	if err := validateMessage(name); err != nil {
		return err
	}
	m := moving.LaneMessage(kind, i.number, name)
	i.link.mesh.Moves.shell.HandleStep(i.link.key.hub, m, true)
	return nil
}

// startForwards executes calls in order. A call that is sent again is for the move core.
func (i *inLane) startForwards(forwards []*peerv1.Forward) error {
	isAgain := func(f *peerv1.Forward) bool { return f.GetResend() != nil }
	moves := i.link.mesh.Moves
	entered := !slices.ContainsFunc(forwards, isAgain) && moves.EnterCall()
	if entered {
		defer moves.LeaveCall()
	}
	for _, f := range forwards {
		if err := i.startForward(f, entered); err != nil {
			return err
		}
	}
	return nil
}

// startForward executes a call. entered says that no move concerns this hub.
func (i *inLane) startForward(f *peerv1.Forward, entered bool) error {
	if err := i.admitForward(f); err != nil {
		return err
	}
	ctx := i.link.ctx
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.GetSend() == nil || len(i.started) >= maxBurst {
		i.flushBurst() // only sends are written together
	}
	i.link.mesh.metrics.countExecuted(f)
	var x Execution
	if entered || moving.IsForHub(f) {
		x = i.executor.Execute(ctx, f, Scope{}, &i.burst)
	} else {
		x = i.link.mesh.Moves.executeCall(i.link.key.hub, i.number, f, &i.burst)
	}
	i.started = append(i.started, startedCall{x, f.GetSequence()})
	return nil
}

// admitForward checks the rules of the lane for f, and counts f.
func (i *inLane) admitForward(f *peerv1.Forward) error {
	if err := checkForward(f); err != nil {
		return err
	}
	if f.GetSequence() != i.sequence+1 {
		return fmt.Errorf("%w: forward %d after %d", core.ErrViolation, f.GetSequence(), i.sequence)
	}
	i.sequence++
	if !i.answers.expectResult() {
		return fmt.Errorf("%w: more than %d forwards without a result",
			core.ErrViolation, laneResults)
	}
	return nil
}

// flushBurst writes the bytes of the started calls to the clients, then answers the calls.
func (i *inLane) flushBurst() {
	i.burst.Flush()
	var upTo uint64
	for _, b := range i.started {
		if b.Awaited == nil || b.Awaited.Reached() {
			i.due = append(i.due, b.numberedResult())
			continue
		}
		upTo = b.sequence
		i.answers.waits.Add(b, b.Until, b.Awaited.Then)
	}
	clear(i.started)
	i.started = i.started[:0]
	if upTo > 0 || len(i.due) > 0 {
		i.answers.addResults(upTo, i.due)
	}
	clear(i.due)
	i.due = i.due[:0]
}

// checkForward checks the rules in the proto. The general validator would take longer than the rest
// of a small forward. A call of a later version breaks no rule: it gets a result too.
func checkForward(f *peerv1.Forward) error {
	switch {
	case f.GetCall() == nil && len(f.ProtoReflect().GetUnknown()) == 0:
		return fmt.Errorf("%w: a forward without a call", core.ErrViolation)
	case len(f.GetCaller()) > maxCaller:
		return fmt.Errorf("%w: caller of %d bytes", core.ErrViolation, len(f.GetCaller()))
	case f.GetAge().AsDuration() < 0:
		return fmt.Errorf("%w: a forward of age %v", core.ErrViolation, f.GetAge().AsDuration())
	case len(f.GetSend().GetRequestHash()) > maxRequestHash:
		return fmt.Errorf("%w: request hash of %d bytes", core.ErrViolation,
			len(f.GetSend().GetRequestHash()))
	case len(f.GetSend().GetTraceParent()) > maxTraceParent:
		return fmt.Errorf("%w: trace parent of %d bytes", core.ErrViolation,
			len(f.GetSend().GetTraceParent()))
	default:
		return nil
	}
}

// The most bytes of a caller's name, a request's hash and a traceparent (forward.proto).
const (
	maxCaller      = 1024
	maxRequestHash = 32
	maxTraceParent = 55
)

// laneAnswers holds the messages to send on a lane that a peer opened: results, and up to where
// calls have begun. Callers that add a message never wait: there is room for the results of all
// forwards that may be without a result.
type laneAnswers struct {
	// Static.
	news    chan struct{}               // holds a token when there may be a message to send
	batches bool                        // the peer takes batches
	waits   *waitlist.List[startedCall] // calls with a result that is not due yet; open counts them

	mu      sync.Mutex
	open    int // forwards whose result is not about to be sent
	begun   uint64
	told    uint64 // the part of begun that the peer was told
	results []*peerv1.ForwardResult
}

func newLaneAnswers(batches bool) *laneAnswers {
	a := &laneAnswers{news: make(chan struct{}, 1), batches: batches}
	a.waits = waitlist.New[startedCall](func() { leaveToken(a.news) })
	return a
}

// expectResult counts a forward that gets a result later. It returns false if there are too many.
func (a *laneAnswers) expectResult() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open++
	return a.open <= laneResults
}

// addResults adds results, and does not keep the list. It also tells the peer that all calls up to
// upTo have begun; 0: no news.
func (a *laneAnswers) addResults(upTo uint64, results []*peerv1.ForwardResult) {
	a.mu.Lock()
	a.begun = max(a.begun, upTo)
	a.results = append(a.results, results...)
	a.mu.Unlock()
	leaveToken(a.news)
}

// writeResponses sends all messages until ctx is done or the stream ends.
func (a *laneAnswers) writeResponses(
	ctx context.Context, stream peerv1.PeerService_DataServer,
) error {
	r := &peerv1.DataResponse{Body: &peerv1.DataResponse_Hello{Hello: &peerv1.LaneHelloAnswer{}}}
	for {
		for ; r != nil; r = a.nextResponse() {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		select {
		case <-a.news:
			runtime.Gosched() // the running call may add to this message
			r = a.nextResponse()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// nextResponse returns the next message, as full as possible, or nil. It takes the results off open
// before the peer can have them: then the peer may send further forwards in their place.
func (a *laneAnswers) nextResponse() *peerv1.DataResponse {
	arrived := a.waits.TakeArrived()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range arrived {
		a.results = append(a.results, b.numberedResult())
	}
	news := a.begun > a.told
	n := min(len(a.results), maxBatch)
	if !a.batches {
		n = min(n, 1)
	}
	switch {
	case n == 0 && !news:
		return nil
	case n == 0 || news && !a.batches:
		a.told = a.begun
		return &peerv1.DataResponse{Body: &peerv1.DataResponse_Begun{Begun: a.begun}}
	}
	some := a.results[:n:n]
	a.open -= n
	if a.results = a.results[n:]; len(a.results) == 0 {
		a.results = nil
	}
	if n == 1 && !news {
		return &peerv1.DataResponse{Body: &peerv1.DataResponse_Result{Result: some[0]}}
	}
	batch := &peerv1.ForwardResultBatch{Results: some}
	if news {
		a.told, batch.Begun = a.begun, a.begun
	}
	return &peerv1.DataResponse{Body: &peerv1.DataResponse_Batch{Batch: batch}}
}
