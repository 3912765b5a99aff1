package mesh

import (
	"context"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Execution is a forwarded call that has begun.
type Execution struct {
	// Result returns the call's result, without a sequence. The lane calls it once, after the burst
	// was flushed and done was called (see Then). Result does not wait.
	Result func() *peerv1.ForwardResult
	// Then, unless it is nil, calls done as soon as Result may be called: at once, or later in a
	// goroutine that may hold locks. stop cancels that; a call of done that is under way may still
	// finish.
	Then func(done func()) (stop func())
	// Reached, unless it is nil, reports whether Result may be called without Then. The lane asks
	// once, after the burst was flushed.
	Reached func() bool
	// Until is the time from which Result may be called without done.
	Until time.Time
}

// Executor carries out calls that peers forward. Its methods may be called concurrently. They may
// keep their arguments, but must not change them.
type Executor interface {
	// Execute begins a forwarded call. It returns when every step that needs the lane's order is
	// done: a send's message is in each outbox, and the bytes for clients are written or in burst.
	// The lane executes its calls in sequence, so Execute must not wait for clients or peers. ctx
	// ends with the link. An unknown call gets an error as its result.
	Execute(ctx context.Context, f *peerv1.Forward, burst *hub.Burst) Execution
	// Read answers a question about this hub. Its error goes to the backend that asked.
	Read(ctx context.Context, r *peerv1.ReadRequest) (*peerv1.ReadResponse, error)
}
