package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// maxLanes is the most lanes of a link (peer.proto).
	maxLanes = 64
	// laneCalls is how many calls of a lane may be neither begun nor have a result (forward.proto).
	laneCalls = 4096
	// laneResults is how many may be without a result: those that wait for clients, or for hubs. What a lane holds of each then is
	// small.
	laneResults = 4 * laneCalls
	// laneBytes bounds the bytes of those calls: what a slow peer can make this hub hold, a lane.
	laneBytes = 32 << 20
	// stuckTime is how long a full lane may be without a result: then it is stuck, as a peer that answers no probe is suspect.
	stuckTime = suspectTime
	// callWeight is what a small call counts for, so that one bound holds both numbers.
	callWeight = laneBytes / laneCalls
	// maxBatch and maxBatchBytes are how many calls go out in one message, and of how many bytes, unless the first is larger
	// (forward.proto): enough that what a message costs in itself is nothing, and as little as costs the receiver no time.
	maxBatch      = 256
	maxBatchBytes = 64 << 10
)

// lane carries calls to a peer, in order, and takes their results, in any order. There is one goroutine for
// each direction. What is in line when the stream takes a message goes out in one.
type lane struct {
	link   *outLink
	number int
	window *semaphore.Weighted // what is not begun
	news   chan struct{}       // holds a token when there may be something in line

	mu       sync.Mutex
	sequence uint64
	sent     uint64                 // the sequence up to which calls were sent, or are about to be
	waiting  map[uint64]*forwarding // by sequence; nil: the lane has ended
	// to be sent, in the order of sequence; no more than the window lets in
	line    []*forwarding
	moved   time.Time // the last one that was begun, or the first call after a pause
	begun   uint64    // up to here all are
	pending int       // not begun
}

// forwarding is one call on its way to one peer.
type forwarding struct {
	call     *Call // nil when it was begun
	kind     string
	sequence uint64
	weight   int64 // 0 when it was begun
	flood    bool  // for the metric
	into     *hubAnswer
}

// settled is what became of a call.
type callResult struct {
	into   *hubAnswer
	result *peerv1.ForwardResult
}

func newLane(l *outLink, number int) *lane {
	return &lane{
		link: l, number: number,
		window:  semaphore.NewWeighted(laneBytes),
		news:    make(chan struct{}, 1),
		waiting: make(map[uint64]*forwarding),
	}
}

// tryEnqueue puts a call in line, if the window has room for it.
func (l *lane) tryEnqueue(f *forwarding) bool {
	f.weight = max(callWeight, min(int64(f.call.size), laneBytes))
	if !l.window.TryAcquire(f.weight) {
		return false
	}
	l.enqueueCall(f)
	return true
}

// enqueueWhenRoom waits for the window for as long as results come, the peer answers probes, and ctx lasts. What does not get in line
// has no outcome.
func (l *lane) enqueueWhenRoom(ctx context.Context, f *forwarding) bool {
	if !l.acquireRoom(ctx, f.weight) {
		f.into.setUnknown()
		return false
	}
	l.enqueueCall(f)
	return true
}

// enqueueCall puts a call in line for which the window had room. Who calls it waits for no answer of a peer that is suspect.
func (l *lane) enqueueCall(f *forwarding) {
	in := l.addToLine(f)
	if in {
		leaveToken(l.news)
	}
	if !in || l.link.patienceContext().Err() != nil {
		f.into.setUnknown()
	}
}

// leaveToken leaves a token, if there is none.
func leaveToken(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// addToLine is enqueue; false: the call does not get in line.
func (l *lane) addToLine(f *forwarding) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		return false
	}
	if len(l.waiting) >= laneResults {
		l.window.Release(f.weight)
		return false
	}
	if l.pending == 0 {
		l.moved = time.Now() // until now there was nothing to move
	}
	l.pending++
	l.sequence++
	f.sequence = l.sequence
	l.waiting[f.sequence] = f
	l.line = append(l.line, f)
	l.link.mesh.metrics.countForwarded(f.kind, f.flood)
	return true
}

// stuckAt is when the lane is stuck, unless a result comes.
func (l *lane) stuckAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moved.Add(stuckTime)
}

// acquireRoom waits for room in the window; false: there is none.
func (l *lane) acquireRoom(ctx context.Context, weight int64) bool {
	ctx, cancel := context.WithDeadline(ctx, l.stuckAt())
	defer cancel()
	defer context.AfterFunc(l.link.ctx, cancel)()
	defer context.AfterFunc(l.link.patienceContext(), cancel)()
	return l.window.Acquire(ctx, weight) == nil
}

// runLane opens the lane and carries calls until the link ends; a lane that breaks ends the link.
func (l *lane) runLane() {
	defer l.loseWaiting()
	stream, err := l.openStream()
	if err != nil {
		l.link.endBroken(fmt.Errorf("%w: %w", errLaneLost, err))
		return
	}
	sent := make(chan struct{})
	go func() { // ends with the link, or when the stream breaks
		defer close(sent)
		l.link.endBroken(l.sendCalls(stream))
	}()
	l.link.endBroken(l.receiveResults(stream))
	<-sent
}

// openStream says hello and takes the answer, for which the peer has as long as for that to the Hello.
func (l *lane) openStream() (peerv1.PeerService_DataClient, error) {
	timer := time.AfterFunc(dialTimeout, func() {
		l.link.end(fmt.Errorf("%w: %w", errLaneLost, errDialTime))
	})
	defer timer.Stop()
	stream, err := l.link.peer.data.Data(l.link.ctx)
	if err != nil {
		return nil, err
	}
	hello := &peerv1.LaneHello{
		Hub: l.link.dial.hello.GetSelf().GetHub(), Epoch: l.link.epoch, Lane: uint32(l.number),
	}
	err = stream.Send(&peerv1.DataRequest{Body: &peerv1.DataRequest_Hello{Hello: hello}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err // EOF: the answer has the reason
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if first.GetHello() == nil {
		return nil, fmt.Errorf("%w: a lane was answered with %T", errViolation, first.GetBody())
	}
	return stream, nil
}

// sendCalls says what is in line, for as long as the link lasts.
func (l *lane) sendCalls(stream peerv1.PeerService_DataClient) error {
	for {
		select {
		case <-l.news:
		case <-l.link.ctx.Done():
			return context.Cause(l.link.ctx)
		}
		runtime.Gosched() // callers that run have more for this message
		for forwards := l.nextForwards(); len(forwards) > 0; forwards = l.nextForwards() {
			if err := stream.Send(dataRequest(forwards)); err != nil {
				return fmt.Errorf("%w: a lane: %w", errHungUp, err)
			}
		}
	}
}

// nextForwards returns what is in line, in their order, as many as fit in a message. They are marshalled at once, so their age is right.
func (l *lane) nextForwards() []*peerv1.Forward {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for ; n < len(l.line) && n < maxBatch; n++ {
		if n > 0 {
			bytes += l.line[n].call.size + len(l.line[n].call.Caller) + maxAround
		}
		if bytes > maxBatchBytes || n > 0 && !l.link.batches {
			break
		}
	}
	forwards, now := make([]*peerv1.Forward, n), time.Now()
	for i, f := range l.line[:n] {
		forwards[i] = f.call.newForward(f.sequence, now)
		l.sent = f.sequence
	}
	l.line = slices.Delete(l.line, 0, n)
	return forwards
}

// maxAround is more than what is in a forward takes beside its call and its caller.
const maxAround = 64

// dataRequest is the message for some forwards.
func dataRequest(forwards []*peerv1.Forward) *peerv1.DataRequest {
	if len(forwards) == 1 {
		return &peerv1.DataRequest{Body: &peerv1.DataRequest_Forward{Forward: forwards[0]}}
	}
	return &peerv1.DataRequest{
		Body: &peerv1.DataRequest_Batch{Batch: &peerv1.ForwardBatch{Forwards: forwards}},
	}
}

func (l *lane) receiveResults(stream peerv1.PeerService_DataClient) error {
	var some []callResult
	for {
		r, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("%w: a lane: %w", errHungUp, err)
		}
		some, err = l.applyResponse(r, some[:0])
		for _, s := range some {
			s.into.setResult(s.result)
		}
		clear(some)
		if err != nil {
			return err
		}
	}
}

// applyResponse takes what the peer says, and adds what became of calls to some. What comes before an error counts.
func (l *lane) applyResponse(r *peerv1.DataResponse, some []callResult) ([]callResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch body := r.GetBody().(type) {
	case *peerv1.DataResponse_Begun:
		return some, l.markBegunLocked(body.Begun)
	case *peerv1.DataResponse_Batch:
		return l.applyBatchLocked(body.Batch, some)
	default:
		return l.matchResultLocked(r.GetResult(), some)
	}
}

func (l *lane) applyBatchLocked(
	b *peerv1.ForwardResultBatch, some []callResult,
) (_ []callResult, err error) {
	if n := len(b.GetResults()); n > maxBatch || n == 0 && b.GetBegun() == 0 {
		return some, fmt.Errorf("%w: a batch of %d results", errViolation, n)
	}
	if b.GetBegun() > 0 {
		if err := l.markBegunLocked(b.GetBegun()); err != nil {
			return some, err
		}
	}
	for _, r := range b.GetResults() {
		if some, err = l.matchResultLocked(r, some); err != nil {
			return some, err
		}
	}
	return some, nil
}

// markBegunLocked makes room for what has begun.
func (l *lane) markBegunLocked(upTo uint64) error {
	if upTo <= l.begun || upTo > l.sent {
		return fmt.Errorf("%w: begun is %d after %d, sent are %d", errViolation, upTo, l.begun,
			l.sent)
	}
	for ; l.begun < upTo; l.begun++ {
		if f := l.waiting[l.begun+1]; f != nil {
			l.releaseWindowLocked(f)
		}
	}
	return nil
}

// releaseWindowLocked makes room for what is no longer in the peer's way.
func (l *lane) releaseWindowLocked(f *forwarding) {
	if f.weight == 0 {
		return
	}
	l.window.Release(f.weight)
	f.weight, f.call = 0, nil
	l.moved = time.Now()
	l.pending--
}

// matchResultLocked adds a result with its call. One that was not sent yet has none: the window that it holds is its place in line.
func (l *lane) matchResultLocked(r *peerv1.ForwardResult, some []callResult) ([]callResult, error) {
	f := l.waiting[r.GetSequence()]
	switch {
	case f == nil || r.GetSequence() > l.sent:
		return some, fmt.Errorf("%w: a result of call %d, which waits for none", errViolation,
			r.GetSequence())
	case !fitsKind(r, f.kind):
		return some, fmt.Errorf("%w: a result %T of a call to %s", errViolation, r.GetResult(),
			f.kind)
	}
	delete(l.waiting, r.GetSequence())
	l.releaseWindowLocked(f)
	return append(some, callResult{f.into, r}), nil
}

// fitsKind reports whether a result is one that a call can have: a status, or the result of its kind.
func fitsKind(r *peerv1.ForwardResult, kind string) bool {
	field := r.ProtoReflect().WhichOneof(results)
	return field != nil && (field.Name() == "status" || string(field.Name()) == kind)
}

// loseWaiting: the outcome of what has no result is unknown.
func (l *lane) loseWaiting() {
	l.mu.Lock()
	left := l.waiting
	l.waiting, l.line = nil, nil
	l.mu.Unlock()
	for _, f := range left {
		f.into.setUnknown()
	}
}

// giveUp has nobody wait for the results of calls that are in line, because the peer is suspect.
func (l *lane) giveUp() {
	l.mu.Lock()
	left := make([]*hubAnswer, 0, len(l.waiting))
	for _, f := range l.waiting {
		left = append(left, f.into)
	}
	l.mu.Unlock()
	for _, a := range left {
		a.setUnknown()
	}
}
