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
	"google.golang.org/grpc"

	"github.com/connhub/connhub/control/mesh/core"
	"github.com/connhub/connhub/control/mesh/wire"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// maxLanes is the most lanes of a link (peer.proto).
	maxLanes = 64
	// laneCalls is the most calls of a lane that have neither begun nor a result (forward.proto).
	laneCalls = 4096
	// laneResults is the most calls without a result, calls that wait for clients or hubs included.
	// A lane holds little for each of those.
	laneResults = 4 * laneCalls
	// laneBytes bounds the bytes of the calls that have not begun: the memory that a slow peer can
	// cost this hub for each lane.
	laneBytes = 32 << 20
	// stuckTime is the most time that a full lane may make no progress. After that the lane is
	// stuck, as a peer that answers no probe is suspect.
	stuckTime = core.SuspectTime
	// callWeight is the weight of a small call in the window: it makes the window hold laneCalls
	// too.
	callWeight = laneBytes / laneCalls
	// maxBatch and maxBatchBytes are the most calls and bytes of a message, unless its first call
	// is larger (forward.proto). They are large enough that the cost of a message itself is
	// nothing, and small enough to cost the receiver no time.
	maxBatch      = wire.MaxBatch
	maxBatchBytes = 64 << 10
)

// lane carries calls to a peer, in order, and takes their results, in any order. Each direction has
// a goroutine. The calls that are in line when the stream takes a message go out together.
type lane struct {
	link   *outLink
	number int
	window *semaphore.Weighted // the room for calls that have not begun
	news   chan struct{}       // holds a token when a call may be in line

	mu       sync.Mutex
	sequence uint64
	sent     uint64                 // calls up to this sequence were sent, or are about to be
	waiting  map[uint64]*forwarding // by sequence; nil: the lane has ended
	// Calls to send, by sequence. The window bounds them.
	line    []*forwarding
	moved   time.Time // the latest begin of a call, or the first call after a pause
	begun   uint64    // all calls up to this sequence have begun
	pending int       // calls that have not begun
	left    int64     // the weight of calls that left the window since its last release
}

// forwarding is a call on its way to a single peer.
type forwarding struct {
	call     *Call // nil once the call has begun
	kind     string
	sequence uint64
	weight   int64 // 0 once the call has begun
	flood    bool  // for the metric
	into     *hubAnswer

	number uint64 // of the call, among those of this hub
	dials  uint64 // moving.Shell.Dials when the call began
	known  bool   // the move core knows the call; guarded by lane.mu once it is in line
	// resend is the move for which the call is sent again; nil: it is not.
	resend *peerv1.MoveName
	// mark is no call, but a mark between calls; nil: it is a call.
	mark *peerv1.DataRequest
}

// callResult is the result of a call with the place that it goes to.
type callResult struct {
	call   *forwarding
	result *peerv1.ForwardResult
	isOurs bool // the move core knows nothing of the call, and need not
}

func newLane(l *outLink, number int) *lane {
	return &lane{
		link: l, number: number,
		window:  semaphore.NewWeighted(laneBytes),
		news:    make(chan struct{}, 1),
		waiting: make(map[uint64]*forwarding),
	}
}

// tryEnqueue puts a call in line if the window has room for it.
func (l *lane) tryEnqueue(f *forwarding) bool {
	f.weight = max(callWeight, min(int64(f.call.size), laneBytes))
	if !l.window.TryAcquire(f.weight) {
		return false
	}
	return l.enqueueCall(f) || !f.known // the move core must know of a call that is lost
}

// enqueueWhenRoom waits for room in the window, for as long as calls begin or results come, the
// peer answers probes, and ctx lasts. Otherwise the call's outcome is unknown.
//
// The call must come into line in the period without moves in which it began (moving.Shell.Period).
// It would be behind the mark of a move here, and before that mark on its other lanes.
func (l *lane) enqueueWhenRoom(ctx context.Context, f *forwarding, period uint64) bool {
	if !l.acquireRoom(ctx, f.weight) {
		f.into.setUnknown()
		return false
	}
	moves := l.link.mesh.Moves
	if moves.EnterCall() {
		defer moves.LeaveCall()
		if moves.shell.Period() == period {
			l.enqueueCall(f)
			return true
		}
	}
	l.window.Release(f.weight)
	f.into.setUnknown()
	return false
}

// enqueueCall puts a call in line for which the window has room. If the peer is suspect, the caller
// does not wait for the result. It returns false if the lane takes no call.
func (l *lane) enqueueCall(f *forwarding) (in bool) {
	in = l.addToLine(f)
	if in {
		leaveToken(l.news)
	}
	if !in || l.link.patienceContext().Err() != nil {
		f.into.setUnknown()
	}
	return in
}

// leaveToken adds a token to c if c has none.
func leaveToken(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// enqueueMark puts a mark in line, behind the calls that are in line. It needs no room.
func (l *lane) enqueueMark(mark *peerv1.DataRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil {
		l.line = append(l.line, &forwarding{mark: mark})
		leaveToken(l.news)
	}
}

// addToLine puts a call in line for enqueueCall. It returns false if the lane has ended, or has too
// many calls without a result.
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
		l.moved = time.Now() // until now no call could begin
	}
	l.pending++
	l.sequence++
	f.sequence = l.sequence
	l.waiting[f.sequence] = f
	l.line = append(l.line, f)
	l.link.mesh.metrics.countForwarded(f.kind, f.flood)
	return true
}

// stuckAt returns when the lane is stuck, unless it makes progress before.
func (l *lane) stuckAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moved.Add(stuckTime)
}

// acquireRoom waits for room in the window. It returns false if there is none in time.
func (l *lane) acquireRoom(ctx context.Context, weight int64) bool {
	ctx, cancel := context.WithDeadline(ctx, l.stuckAt())
	defer cancel()
	defer context.AfterFunc(l.link.ctx, cancel)()
	defer context.AfterFunc(l.link.patienceContext(), cancel)()
	return l.window.Acquire(ctx, weight) == nil
}

// runLane opens the lane and carries calls until the link ends. A broken lane ends the link.
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

// openStream says hello and takes the answer. The peer has DialTimeout for it, as for the answer to
// a Hello.
func (l *lane) openStream() (peerv1.PeerService_DataClient, error) {
	timer := time.AfterFunc(core.DialTimeout, func() {
		l.link.end(fmt.Errorf("%w: %w", errLaneLost, core.ErrDialTime))
	})
	defer timer.Stop()
	stream, err := l.link.peer.data.Data(l.link.ctx, grpc.ForceCodecV2(wire.NewCodec()))
	if err != nil {
		return nil, err
	}
	hello := &peerv1.LaneHello{
		Hub: l.link.dial.Hello.GetSelf().GetHub(), Epoch: l.link.epoch, Lane: uint32(l.number),
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
		return nil, fmt.Errorf("%w: a lane was answered with %T",
			core.ErrViolation, first.GetBody())
	}
	return stream, nil
}

// sendCalls sends the calls in line, for as long as the link lasts.
func (l *lane) sendCalls(stream peerv1.PeerService_DataClient) error {
	for {
		select {
		case <-l.news:
		case <-l.link.ctx.Done():
			return context.Cause(l.link.ctx)
		}
		runtime.Gosched() // running callers may have more calls for this message
		for r := l.nextRequest(); r != nil; r = l.nextRequest() {
			if err := stream.Send(r); err != nil {
				return fmt.Errorf("%w: a lane: %w", errHungUp, err)
			}
		}
	}
}

// nextRequest returns the next message: a mark, or the next calls in line, as many as fit. It
// returns nil if the line is empty. The caller marshals it at once, so that the age of calls is
// right.
func (l *lane) nextRequest() *peerv1.DataRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 {
		return nil
	}
	if mark := l.line[0].mark; mark != nil {
		l.line = slices.Delete(l.line, 0, 1)
		return mark
	}
	n, bytes := 0, 0
	for ; n < len(l.line) && n < maxBatch && l.line[n].mark == nil; n++ {
		if n > 0 {
			bytes += l.line[n].call.size + len(l.line[n].call.Caller) + maxAround
		}
		if bytes > maxBatchBytes || n > 0 && !l.link.batches {
			break
		}
	}
	forwards, memory, now := make([]*peerv1.Forward, n), make([]peerForward, n), time.Now()
	for i, f := range l.line[:n] {
		forwards[i] = memory[i].fill(f.call, f.sequence, now)
		forwards[i].Resend = f.resend
		l.sent = f.sequence
	}
	l.line = slices.Delete(l.line, 0, n)
	return dataRequest(forwards)
}

// maxAround is more than the bytes of a forward besides its call and its caller.
const maxAround = 64

// dataRequest returns the message for forwards.
func dataRequest(forwards []*peerv1.Forward) *peerv1.DataRequest {
	var r struct { // a single allocation
		request peerv1.DataRequest
		single  peerv1.DataRequest_Forward
		several peerv1.DataRequest_Batch
		batch   peerv1.ForwardBatch
	}
	if len(forwards) == 1 {
		r.single.Forward, r.request.Body = forwards[0], &r.single
		return &r.request
	}
	r.batch.Forwards, r.several.Batch, r.request.Body = forwards, &r.batch, &r.several
	return &r.request
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
			if s.isOurs {
				s.call.into.setResult(s.result)
			} else {
				l.link.mesh.Moves.takeResult(l, s.call, s.result)
			}
		}
		clear(some)
		if err != nil {
			return err
		}
	}
}

// applyResponse processes a message of the peer, and appends the results of calls to some. The part
// of a message before an error counts.
func (l *lane) applyResponse(r *peerv1.DataResponse, some []callResult) ([]callResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.releaseWindowLocked()
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
		return some, fmt.Errorf("%w: a batch of %d results", core.ErrViolation, n)
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

// markBegunLocked marks the calls up to upTo, which have begun.
func (l *lane) markBegunLocked(upTo uint64) error {
	if upTo <= l.begun || upTo > l.sent {
		return fmt.Errorf("%w: begun is %d after %d, sent are %d", core.ErrViolation, upTo, l.begun,
			l.sent)
	}
	for ; l.begun < upTo; l.begun++ {
		if f := l.waiting[l.begun+1]; f != nil {
			l.leaveWindowLocked(f)
		}
	}
	return nil
}

// leaveWindowLocked notes that a call no longer holds up the peer.
func (l *lane) leaveWindowLocked(f *forwarding) {
	if f.weight == 0 {
		return
	}
	l.left += f.weight
	f.weight, f.call = 0, nil
	l.pending--
}

// releaseWindowLocked releases the room of the calls that left the window, once for all calls of a
// message.
func (l *lane) releaseWindowLocked() {
	if l.left == 0 {
		return
	}
	l.window.Release(l.left)
	l.left, l.moved = 0, time.Now()
}

// matchResultLocked appends the result with its call. A call that was not sent yet can't have a
// result: the room that it holds in the window is its place in line.
func (l *lane) matchResultLocked(r *peerv1.ForwardResult, some []callResult) ([]callResult, error) {
	f := l.waiting[r.GetSequence()]
	switch {
	case f == nil || r.GetSequence() > l.sent:
		return some, fmt.Errorf("%w: a result of call %d, which waits for none", core.ErrViolation,
			r.GetSequence())
	case len(r.GetMoved()) > 0 != (r.GetReturned() != nil):
		return some, fmt.Errorf("%w: a call that has moved comes back, and no other",
			core.ErrViolation)
	case !fitsKind(r, f.kind):
		return some, fmt.Errorf("%w: a result %T of a call to %s", core.ErrViolation, r.GetResult(),
			f.kind)
	}
	l.leaveWindowLocked(f)
	isOurs := !f.known && len(r.GetMoved()) == 0
	if isOurs {
		delete(l.waiting, r.GetSequence())
	}
	return append(some, callResult{f, r, isOurs}), nil
}

// forget removes a call that has its result. It reports whether the lane had the call.
func (l *lane) forget(f *forwarding) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, had := l.waiting[f.sequence]
	delete(l.waiting, f.sequence)
	return had
}

// fitsKind reports whether a call of that kind can have the result: a status, or the kind's result.
func fitsKind(r *peerv1.ForwardResult, kind string) bool {
	if _, ok := r.GetResult().(*peerv1.ForwardResult_Send); ok {
		return kind == kindSend
	}
	field := r.ProtoReflect().WhichOneof(results)
	return field != nil && (field.Name() == "status" || string(field.Name()) == kind)
}

// loseWaiting sets the outcome of each call without a result to unknown.
func (l *lane) loseWaiting() {
	l.mu.Lock()
	left := l.waiting
	l.waiting, l.line = nil, nil
	l.mu.Unlock()
	for _, f := range left {
		f.into.setUnknown()
	}
}

// giveUp lets no caller wait for the results of the lane's calls, because the peer is suspect.
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
