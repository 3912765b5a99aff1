package moving

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Body is a call, as the core hands it on.
type Body struct {
	// Forward is for the executor.
	Forward *peerv1.Forward
	// Call is for Links.PutCall; nil: Forward has come from a peer.
	Call any
}

// sizeOf returns the bytes that a call holds.
func sizeOf(body any) int {
	b, _ := body.(*Body)
	return proto.Size(b.Forward)
}

// callKey names a call at a hub that carries it out.
type callKey struct {
	hub    hub.ID // where it began
	number uint64
}

// longestHold is the most time that the hold of a call can take, with room to spare: the links of a
// hub that stands still end before, and the hub is dead soon after. A send is answered before, at
// the time that its caller gives it.
const longestHold = 5 * time.Minute

// execution is a call that is carried out in parts.
type execution struct {
	executor Executor        // static
	forward  *peerv1.Forward // static
	began    time.Time       // static

	mu    sync.Mutex // a leaf for the shell; Awaited.Then may be called under it
	parts []Execution
	held  []hub.ConnectionID // the call is held for them
	// mayReturn says that the answer may be the call itself. An answer before would be the last
	// that the origin hears, and the call would be lost for a connection that has moved.
	mayReturn bool
	answered  bool // the core has answered: no more parts come
	moved     []*peerv1.MoveName
	done      func()
	stops     []func()

	open atomic.Int32 // parts that done waits for, and 1 for awaitParts
}

var _ Awaited = (*execution)(nil)

// StartCall begins a call of this hub on a lane, to this hub and to linked peers. prepare gets its
// number and the peers, more than to perhaps, before anything is sent. It is called within Do.
func (s *Shell) StartCall(
	lane int, to []hub.ID, body *Body, prepare func(number uint64, to []hub.ID),
) Execution {
	var x *execution
	s.Handle(func(c *move.Core, now time.Duration) []move.Effect {
		number, effects := c.StartCall(now, lane, to, body)
		var peers []hub.ID
		for _, e := range effects {
			if r, ok := e.(move.Request); ok && r.Message.Kind == move.Call {
				peers = append(peers, r.Hub)
			}
		}
		prepare(number, peers)
		x = s.addExecution(callKey{s.config.Self, number}, body.Forward)
		return effects
	})
	return x.wholeCall()
}

// ReceiveCall carries out a call of a peer. number is the call's among those of the link. burst may
// be nil. It is called within Do.
func (s *Shell) ReceiveCall(
	from hub.ID, lane int, number uint64, f *peerv1.Forward, burst *hub.Burst,
) Execution {
	m := move.Message{Kind: move.Call, Lane: lane, Number: number, Body: &Body{Forward: f}}
	if name := f.GetResend(); name != nil {
		m.Kind, m.Move = move.Resend, moveOf(name)
	}
	x := s.addExecution(callKey{from, number}, f)
	s.burst = burst
	s.Handle(func(c *move.Core, now time.Duration) []move.Effect {
		return c.HandleRequest(now, from, m)
	})
	s.burst = nil
	if len(x.parts) == 0 { // the core has not taken it: its link is over
		delete(s.executions, callKey{from, number})
		x.answered = true
	}
	return x.wholeCall()
}

func (s *Shell) addExecution(key callKey, f *peerv1.Forward) *execution {
	x := &execution{executor: s.executor, forward: f, began: time.Now()}
	s.executions[key] = x
	return x
}

// executeCall carries a call out for the connections that don't move.
func (s *Shell) executeCall(e move.Execute) {
	part := s.executor.Execute(s.running, e.Body.(*Body).Forward, Scope{Except: e.Except}, s.burst)
	if x := s.executions[callKey{e.From.Hub, e.Number}]; x != nil {
		x.addPart(part, e.Held)
		x.delayAnswer(e.MayReturn)
	}
}

// deliverCall carries a call out for a connection that it was held for.
func (s *Shell) deliverCall(e move.Deliver) {
	scope := Scope{Only: e.Connection}
	part := s.executor.Execute(s.running, e.Body.(*Body).Forward, scope, nil)
	if x := s.executions[callKey{e.From.Hub, e.Number}]; x != nil {
		x.addPart(part, nil)
	}
}

// answerCall ends a call: its parts are complete.
func (s *Shell) answerCall(to hub.ID, m *move.Message) {
	key := callKey{to, m.Number}
	if x := s.executions[key]; x != nil {
		delete(s.executions, key)
		x.completeParts(m.Moved)
	}
}

// Merge returns the sum of two results of a call: see Executor.
func (s *Shell) Merge(sum, part *peerv1.ForwardResult) *peerv1.ForwardResult {
	return s.executor.Merge(sum, part)
}

// ForgetCalls forgets the calls of a peer whose link has ended. It is called within Do.
func (s *Shell) ForgetCalls(peer hub.ID) {
	for key := range s.executions {
		if key.hub == peer {
			delete(s.executions, key)
		}
	}
}

func (x *execution) addPart(part Execution, held []hub.ConnectionID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts = append(x.parts, part)
	x.held = held
}

func (x *execution) delayAnswer(mayReturn bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mayReturn = mayReturn
}

func (x *execution) completeParts(moved []move.Move) {
	x.mu.Lock()
	x.answered, x.held = true, nil
	for _, m := range moved {
		x.moved = append(x.moved, nameOf(m))
	}
	waits := x.done != nil
	x.mu.Unlock()
	if waits {
		x.awaitParts()
	}
}

// wholeCall returns the call as a single execution.
func (x *execution) wholeCall() Execution {
	whole := Execution{Result: x.sumParts, Until: x.began.Add(longestHold)}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.parts) > 0 && !x.parts[0].Until.IsZero() && !x.mayReturn {
		whole.Until = x.parts[0].Until
	}
	if !x.answered || slices.ContainsFunc(x.parts, Execution.isWaiting) {
		whole.Awaited = x
	}
	return whole
}

func (x Execution) isWaiting() bool { return x.Awaited != nil && !x.Awaited.Reached() }

// thenDue calls done when Result may be called.
func (x Execution) thenDue(done func()) (stop func()) {
	once := sync.OnceFunc(done)
	timer := time.AfterFunc(max(1, time.Until(x.Until)), once)
	forget := x.Awaited.Then(once)
	return func() {
		timer.Stop()
		forget()
	}
}

// Reached implements Awaited.
func (x *execution) Reached() bool { return false }

// Then implements Awaited.
func (x *execution) Then(done func()) (stop func()) {
	x.mu.Lock()
	x.done = done
	answered := x.answered
	x.mu.Unlock()
	if answered {
		x.awaitParts()
	}
	return x.stopAll
}

// awaitParts calls done when the last part has come as far as it waits for.
func (x *execution) awaitParts() {
	x.mu.Lock()
	var waiting []Execution
	for _, part := range x.parts {
		if part.isWaiting() {
			waiting = append(waiting, part)
		}
	}
	x.mu.Unlock()
	x.open.Store(int32(len(waiting)) + 1) //nolint:gosec // a few
	for _, part := range waiting {
		stop := part.thenDue(x.endPart)
		x.mu.Lock()
		x.stops = append(x.stops, stop)
		x.mu.Unlock()
	}
	x.endPart()
}

func (x *execution) endPart() {
	if x.open.Add(-1) == 0 {
		x.done()
	}
}

func (x *execution) stopAll() {
	x.mu.Lock()
	stops := x.stops
	x.stops = nil
	x.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// sumParts returns the sum of the parts so far.
func (x *execution) sumParts() *peerv1.ForwardResult {
	x.mu.Lock()
	parts, held, moved := x.parts, x.held, x.moved
	x.parts = nil
	x.mu.Unlock()
	var sum *peerv1.ForwardResult
	for _, part := range parts {
		sum = x.executor.Merge(sum, part.Result())
	}
	if len(held) > 0 {
		sum = x.executor.InTransfer(x.forward, sum, held)
	}
	if sum == nil {
		sum = notBegun()
	}
	if len(moved) > 0 {
		sum.Moved, sum.Returned = moved, x.agedCall()
	}
	return sum
}

// notBegun returns the result of a call that the core has not taken: its link was over.
func notBegun() *peerv1.ForwardResult {
	why, _ := proto.Marshal(&spb.Status{
		Code: int32(code.Code_UNAVAILABLE), Message: "the link has ended",
	})
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Status{Status: why}}
}

// IsForHub reports whether a call is for this hub, whatever its connections are. Moves do not hold
// it, and it does not follow a connection to its next hub.
func IsForHub(f *peerv1.Forward) bool {
	switch f.GetCall().(type) {
	case *peerv1.Forward_Drain, *peerv1.Forward_Rebalance:
		return f.GetResend() == nil
	default:
		return false
	}
}

// agedCall returns the call with its present age. The hub where it began sends it again.
func (x *execution) agedCall() *peerv1.Forward {
	age := x.forward.GetAge().AsDuration() + time.Since(x.began)
	return &peerv1.Forward{
		Sequence: x.forward.GetSequence(), Caller: x.forward.GetCaller(),
		Age: durationpb.New(age), Call: x.forward.GetCall(),
	}
}
