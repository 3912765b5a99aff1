package mesh

import (
	"context"

	"github.com/connhub/connhub/control/mesh/moving"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Words of package moving that callers of a Mesh use.
type (
	// Execution is a forwarded call that has begun.
	Execution = moving.Execution
	// Awaited is an event that an execution waits for.
	Awaited = moving.Awaited
	// AwaitedFunc is an Awaited that only Then tells of.
	AwaitedFunc = moving.AwaitedFunc
	// Scope limits a call to a part of this hub's connections.
	Scope = moving.Scope
)

// Executor carries out calls that peers forward. Its methods may be called concurrently. They may
// keep their arguments, but must not change them.
type Executor interface {
	moving.Executor

	// Read answers a question about this hub. Its error goes to the backend that asked.
	Read(ctx context.Context, r *peerv1.ReadRequest) (*peerv1.ReadResponse, error)
}
