package mesh

import (
	"context"
	"time"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Execution is a forwarded call that has begun.
type Execution struct {
	// Result returns what became of the call, without a sequence. The lane calls it once, when the burst was flushed and
	// what Then waits for is over. It does not wait.
	Result func() *peerv1.ForwardResult
	// Then, unless it is nil, has done called when Result may be called, at once or by a goroutine that may hold locks.
	// stop calls it off; a call of done that is under way may still come to its end.
	Then func(done func()) (stop func())
	// Until is when Result may be called although Then has not called done.
	Until time.Time
}

// Executor carries out at this hub what others ask of it. Its methods may be called concurrently. What they are
// given they may keep, not change.
type Executor interface {
	// Execute begins a forwarded call. It returns when what must be in order is done: the message of a send is in
	// each outbox; what is to be written to clients is written, or in burst. The calls of a lane are executed one after the
	// other, so it must not wait for clients or other hubs. ctx ends with the link. A call that is unknown has an error for
	// its result.
	Execute(ctx context.Context, f *peerv1.Forward, burst *hub.Burst) Execution
	// Read answers a question about this hub. Its error is for the backend that asked.
	Read(ctx context.Context, r *peerv1.ReadRequest) (*peerv1.ReadResponse, error)
}
