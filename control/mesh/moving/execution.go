package moving

import (
	"context"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Execution is a forwarded call that has begun.
type Execution struct {
	// Result returns the call's result, without a sequence. It is called once, after the burst was
	// flushed and Awaited has come. Result does not wait.
	Result func() *peerv1.ForwardResult
	// Awaited is the event that Result waits for beyond the flush; nil: none.
	Awaited Awaited
	// Until is the time from which Result may be called without Awaited.
	Until time.Time
}

// Awaited is an event that an execution waits for, for instance the write of a message.
type Awaited interface {
	// Then calls done as soon as the event has come: at once, or later in a goroutine that may hold
	// locks. stop cancels that; a call of done that is under way may still finish.
	Then(done func()) (stop func())
	// Reached reports whether the event has come. If it returns false, Then tells.
	Reached() bool
}

// AwaitedFunc is an Awaited that only Then tells of.
type AwaitedFunc func(done func()) (stop func())

var _ Awaited = AwaitedFunc(nil)

// Then implements Awaited.
func (f AwaitedFunc) Then(done func()) (stop func()) { return f(done) }

// Reached implements Awaited.
func (AwaitedFunc) Reached() bool { return false }

// Scope limits a call to a part of this hub's connections. The zero Scope is no limit.
type Scope struct {
	// Except are connections that move: the call is not for them, or not yet.
	Except []hub.ConnectionID
	// Only, if it is not empty, is the single connection that the call is for, if the call's target
	// matches it.
	Only hub.ConnectionID
}

// Executor carries out calls at this hub. Its methods may be called concurrently. They may keep
// their arguments, but must not change them.
type Executor interface {
	// Execute begins a forwarded call for the connections in scope. It returns when every step that
	// needs the lane's order is done: a send's message is in each outbox, and the bytes for clients
	// are written or in burst. The lane executes its calls in sequence, so Execute must not wait
	// for clients or peers. ctx ends with the link. An unknown call gets an error as its result.
	Execute(ctx context.Context, f *peerv1.Forward, scope Scope, burst *hub.Burst) Execution
	// Merge returns the sum of two results of a call. sum may be nil, and may change.
	Merge(sum, part *peerv1.ForwardResult) *peerv1.ForwardResult
	// InTransfer adds to a result the connections that f is held for: those that match. r may
	// change.
	InTransfer(
		f *peerv1.Forward, r *peerv1.ForwardResult, held []hub.ConnectionID,
	) *peerv1.ForwardResult
}
