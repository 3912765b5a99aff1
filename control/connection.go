package control

import (
	"context"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// closeNormal is the close code if the backend gives none (RFC 6455 §7.4.1).
const closeNormal = 1000

type connectionService struct {
	controlv1.UnimplementedConnectionServiceServer
	router *router
	reader *reading.Reader
}

// GetConnection implements the RPC.
func (s *connectionService) GetConnection(
	ctx context.Context, req *controlv1.GetConnectionRequest,
) (*controlv1.GetConnectionResponse, error) {
	return s.reader.GetConnection(ctx, req)
}

// ListConnections implements the RPC.
func (s *connectionService) ListConnections(
	ctx context.Context, req *controlv1.ListConnectionsRequest,
) (*controlv1.ListConnectionsResponse, error) {
	return s.reader.ListConnections(ctx, req)
}

// CloseConnections implements the RPC.
func (s *connectionService) CloseConnections(
	ctx context.Context, req *controlv1.CloseConnectionsRequest,
) (*controlv1.CloseConnectionsResponse, error) {
	if req.GetTarget().GetEveryone() && req.GetMaxMatched() == 0 {
		return nil, failure.InvalidField(
			"max_matched", "must be above 0 when the target has everyone")
	}
	return s.router.Close(ctx, req)
}

// closeVerb closes connections.
var closeVerb = verb[*controlv1.CloseConnectionsRequest, *controlv1.CloseConnectionsResponse]{
	wrap: func(request []byte) *peerv1.Forward {
		closing := &peerv1.ForwardClose{Request: request}
		return &peerv1.Forward{Call: &peerv1.Forward_Close{Close: closing}}
	},
	begin: func(
		ctx context.Context, h *hub.Hub, req *controlv1.CloseConnectionsRequest, target *hub.Target,
	) (*controlv1.CloseConnectionsResponse, inForce, error) {
		limit := int(req.GetMaxMatched())
		closed, err := h.CloseConnections(ctx, form.NamespaceOf(req), target, newClose(req), limit)
		return newClosed(closed), nil, err
	},
	result: closedResult,
	partOf: (*peerv1.ForwardResult).GetClose,
	add:    addClosed,
	setGaps: func(sum *controlv1.CloseConnectionsResponse, g gaps) {
		sum.UnreachableHubs, sum.DiscoveryStaleFor = g.unreachableHubs, g.staleFor
	},
}

// countVerb counts the connections that a close would match. It has no answer of its own, so
// setGaps is nil.
var countVerb = verb[*controlv1.CloseConnectionsRequest, *controlv1.CloseConnectionsResponse]{
	wrap: func(request []byte) *peerv1.Forward {
		counting := &peerv1.ForwardClose{Request: request, CountOnly: true}
		return &peerv1.Forward{Call: &peerv1.Forward_Close{Close: counting}}
	},
	begin: func(
		_ context.Context, h *hub.Hub, req *controlv1.CloseConnectionsRequest, target *hub.Target,
	) (*controlv1.CloseConnectionsResponse, inForce, error) {
		return newClosed(hub.Closed{Matched: h.Count(form.NamespaceOf(req), target)}), nil, nil
	},
	result: closedResult,
	partOf: (*peerv1.ForwardResult).GetClose,
	add:    addClosed,
}

func closedResult(part *controlv1.CloseConnectionsResponse) *peerv1.ForwardResult {
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Close{Close: part}}
}

func addClosed(sum, part *controlv1.CloseConnectionsResponse) {
	sum.Matched = form.AddCounts(sum.GetMatched(), part.GetMatched())
	sum.Closed = form.AddCounts(sum.GetClosed(), part.GetClosed())
}

// newClose translates the close that the clients see.
func newClose(req *controlv1.CloseConnectionsRequest) cause.CloseStatus {
	how := cause.CloseStatus{Cause: cause.Backend, Code: closeNormal, Reason: req.GetReason()}
	if req.GetCode() != 0 {
		how.Code = uint16(req.GetCode()) // the proto's rule: at most 4999
	}
	return how
}

func newClosed(closed hub.Closed) *controlv1.CloseConnectionsResponse {
	return &controlv1.CloseConnectionsResponse{
		Matched: form.ClampCount(closed.Matched), Closed: form.ClampCount(closed.Closed),
	}
}
