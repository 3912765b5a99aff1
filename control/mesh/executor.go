package mesh

import (
	"context"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Executor carries out at this hub what others ask of it. Its methods may be called concurrently. What they are
// given they may keep, not change.
type Executor interface {
	// Execute begins a forwarded call. It returns when what must be in order is done: the message of a send is in
	// each outbox; what is to be written to clients is written, or in burst. The calls of a lane are executed one after the
	// other, so it must not wait for clients or other hubs. The result has no sequence. With rest it is not there yet: rest
	// returns it when burst was flushed. Where waits is true, it waits for as long as the call says or until ctx is done, and
	// gets a goroutine of its own. A call that is unknown has an error for its result.
	Execute(ctx context.Context, f *peerv1.Forward, burst *hub.Burst) (result *peerv1.ForwardResult, rest func(ctx context.Context) *peerv1.ForwardResult, waits bool)
	// Read answers a question about this hub. Its error is for the backend that asked.
	Read(ctx context.Context, r *peerv1.ReadRequest) (*peerv1.ReadResponse, error)
}
