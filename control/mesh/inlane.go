package mesh

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/waitlist"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// maxBurst is how many sends are written to clients together: the first of many does not wait for all.
const maxBurst = 32

// inLane is a lane that a peer opened. One goroutine executes what comes, one call after the other; another one sends
// results. Calls that wait for clients, or for hubs, are entries in a list. The handler waits for both goroutines, and lets
// go of the lane when the link ends.
type inLane struct {
	// Static.
	link     *inLink
	executor Executor
	answers  *laneAnswers

	// has room for one: who executes calls, and from the end on serve; guards what follows
	turn     chan struct{}
	sequence uint64
	burst    hub.Burst
	started  []startedCall // what it is for
}

// begun is a call that was executed and whose result is not there yet.
type startedCall struct {
	Execution
	sequence uint64
}

// numberedResult returns the result, when it is due.
func (b *startedCall) numberedResult() *peerv1.ForwardResult {
	r := b.Result()
	r.Sequence = b.sequence
	return r
}

func newInLane(l *inLink, e Executor) *inLane {
	return &inLane{
		link: l, executor: e, turn: make(chan struct{}, 1), answers: newLaneAnswers(l.batches),
	}
}

// serveLane returns why the lane ended. From then on nothing of it is executed, and nothing waits.
func (i *inLane) serveLane(stream peerv1.PeerService_DataServer) error {
	defer func() { i.turn <- struct{}{} }() // and it is never given back
	defer i.answers.waits.End()
	ctx := i.link.ctx
	ended := make(chan error, 2)
	// ends with the link; a blocked Send with the stream
	go func() { ended <- i.answers.writeResponses(ctx, stream) }()
	go func() { ended <- i.readRequests(stream) }() // ends with the stream
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readRequests executes what comes.
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

// executeRequest executes the calls in a message. Those before one that breaks a rule count.
func (i *inLane) executeRequest(r *peerv1.DataRequest) error {
	// what waited in the socket while the process stood still may not be for this hub any more
	i.link.mesh.checkStandstill()
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-i.link.ctx.Done():
		return context.Cause(i.link.ctx)
	}
	defer i.flushBurst()
	batch, ok := r.GetBody().(*peerv1.DataRequest_Batch)
	if !ok {
		return i.startForward(r.GetForward())
	}
	forwards := batch.Batch.GetForwards()
	if n := len(forwards); n == 0 || n > maxBatch {
		return fmt.Errorf("%w: a batch of %d forwards", errViolation, n)
	}
	for _, f := range forwards {
		if err := i.startForward(f); err != nil {
			return err
		}
	}
	return nil
}

func (i *inLane) startForward(f *peerv1.Forward) error {
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
	i.started = append(i.started, startedCall{
		i.executor.Execute(ctx, f, &i.burst), f.GetSequence(),
	})
	return nil
}

// admitForward holds the rules for what comes on a lane, and counts.
func (i *inLane) admitForward(f *peerv1.Forward) error {
	if err := checkForward(f); err != nil {
		return err
	}
	if f.GetSequence() != i.sequence+1 {
		return fmt.Errorf("%w: forward %d after %d", errViolation, f.GetSequence(), i.sequence)
	}
	i.sequence++
	if !i.answers.expectResult() {
		return fmt.Errorf("%w: more than %d forwards without a result", errViolation, laneResults)
	}
	return nil
}

// flushBurst has the clients' links write what was begun, and answers.
func (i *inLane) flushBurst() {
	i.burst.Flush()
	var upTo uint64
	results := make([]*peerv1.ForwardResult, 0, len(i.started))
	for _, b := range i.started {
		if b.Then == nil {
			results = append(results, b.numberedResult())
			continue
		}
		upTo = b.sequence
		i.answers.waits.Add(b, b.Until, b.Then)
	}
	clear(i.started)
	i.started = i.started[:0]
	if upTo > 0 || len(results) > 0 {
		i.answers.addResults(upTo, results...)
	}
}

// checkForward holds the rules in the proto; the general validator would take longer than the rest of a small forward. A call that only later
// versions know breaks none: it has a result like any other.
func checkForward(f *peerv1.Forward) error {
	switch {
	case f.GetCall() == nil && len(f.ProtoReflect().GetUnknown()) == 0:
		return fmt.Errorf("%w: a forward without a call", errViolation)
	case len(f.GetCaller()) > maxCaller:
		return fmt.Errorf("%w: caller of %d bytes", errViolation, len(f.GetCaller()))
	case f.GetAge().AsDuration() < 0:
		return fmt.Errorf("%w: a forward of age %v", errViolation, f.GetAge().AsDuration())
	case len(f.GetSend().GetRequestHash()) > maxRequestHash:
		return fmt.Errorf("%w: request hash of %d bytes", errViolation,
			len(f.GetSend().GetRequestHash()))
	case len(f.GetSend().GetTraceParent()) > maxTraceParent:
		return fmt.Errorf("%w: trace parent of %d bytes", errViolation,
			len(f.GetSend().GetTraceParent()))
	default:
		return nil
	}
}

// The most bytes of a caller's name, of a request's hash and of a traceparent (forward.proto).
const (
	maxCaller      = 1024
	maxRequestHash = 32
	maxTraceParent = 55
)

// laneAnswers is what is to be said on a lane that a peer opened: results, and what has begun. Who puts something in
// never waits: there is room for the results of all forwards that may be without one.
type laneAnswers struct {
	// Static.
	news    chan struct{}               // holds a token when there may be something to say
	batches bool                        // the peer takes batches
	waits   *waitlist.List[startedCall] // calls whose result is not due yet; open counts them

	mu      sync.Mutex
	open    int // forwards whose result is not about to be sent
	begun   uint64
	told    uint64 // of it
	results []*peerv1.ForwardResult
}

func newLaneAnswers(batches bool) *laneAnswers {
	a := &laneAnswers{news: make(chan struct{}, 1), batches: batches}
	a.waits = waitlist.New[startedCall](func() { leaveToken(a.news) })
	return a
}

// expectResult counts a forward that is to have a result; false: there are too many.
func (a *laneAnswers) expectResult() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open++
	return a.open <= laneResults
}

// addResults adds results, and says up to where all has begun; 0: nothing about that.
func (a *laneAnswers) addResults(upTo uint64, results ...*peerv1.ForwardResult) {
	a.mu.Lock()
	a.begun = max(a.begun, upTo)
	a.results = append(a.results, results...)
	a.mu.Unlock()
	leaveToken(a.news)
}

// writeResponses says everything until ctx is done, or the stream ends.
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
			runtime.Gosched() // what is being executed has more for this message
			r = a.nextResponse()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// nextResponse returns what is to be said, as much as goes into a message; nil: nothing. It takes the results off what is open before the
// peer can have them, and send other forwards in their place.
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
