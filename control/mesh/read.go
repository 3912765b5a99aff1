package mesh

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// ErrUnreachable: a hub can't be asked, or did not answer before it became suspect.
var ErrUnreachable = errors.New("hub is unreachable")

// Read asks the hub `to`, and fills that hub into r. The error is ErrUnreachable, the error of ctx,
// or the status with which the hub answered.
func (m *Mesh) Read(
	ctx context.Context, to hub.ID, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	m.mu.RLock()
	l := m.out[to]
	linked := l != nil && l.linked && l.ctx.Err() == nil
	m.mu.RUnlock()
	if !linked {
		return nil, ErrUnreachable
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	give := func() { cancel(ErrUnreachable) }
	defer context.AfterFunc(l.ctx, give)()
	defer context.AfterFunc(l.patienceContext(), give)()
	response, err := l.peer.data.Read(ctx, &peerv1.ReadRequest{Hub: string(to), Read: r.GetRead()})
	switch {
	case err == nil:
		return response, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	// The hub has the call's deadline too, and may have noticed it first.
	case status.Code(err) == codes.DeadlineExceeded:
		return nil, context.DeadlineExceeded
	case isUnanswered(err):
		return nil, ErrUnreachable
	default:
		return nil, err
	}
}

// isUnanswered reports whether err is not an answer of the asked hub. It is then gRPC's error for a
// broken connection, or the answer of another hub (WRONG_HUB). UNAVAILABLE from the hub itself has
// details.
func isUnanswered(err error) bool {
	st := status.Convert(err)
	return st.Code() == codes.Unavailable && len(st.Details()) == 0 ||
		reasonIn(st) == peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB
}
