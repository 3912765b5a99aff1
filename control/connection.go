package control

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
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
}

// GetConnection implements the RPC.
func (s *connectionService) GetConnection(
	ctx context.Context, req *controlv1.GetConnectionRequest,
) (*controlv1.GetConnectionResponse, error) {
	connection, err := s.router.Connection(ctx, req)
	if err != nil {
		return nil, err
	}
	return &controlv1.GetConnectionResponse{Connection: connection}, nil
}

// ListConnections implements the RPC.
func (s *connectionService) ListConnections(
	ctx context.Context, req *controlv1.ListConnectionsRequest,
) (*controlv1.ListConnectionsResponse, error) {
	req.Target = form.OrEveryone(req.GetTarget())
	const method = controlv1.ConnectionService_ListConnections_FullMethodName
	request, err := newFingerprint(method, form.NamespaceOf(req), req.GetTarget())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), request)
	if err != nil {
		return nil, err
	}
	response, next, err := s.router.Connections(ctx, req, after)
	if err != nil {
		return nil, err
	}
	response.NextPageToken = pageToken(request, next)
	return response, nil
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
	carryOut: func(
		ctx context.Context, h *hub.Hub, req *controlv1.CloseConnectionsRequest,
	) (*controlv1.CloseConnectionsResponse, error) {
		target := form.NewTarget(req.GetTarget())
		limit := int(req.GetMaxMatched())
		closed, err := h.CloseConnections(ctx, form.NamespaceOf(req), &target, newClose(req), limit)
		return newClosed(closed), err
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
	carryOut: func(
		_ context.Context, h *hub.Hub, req *controlv1.CloseConnectionsRequest,
	) (*controlv1.CloseConnectionsResponse, error) {
		target := form.NewTarget(req.GetTarget())
		return newClosed(hub.Closed{Matched: h.Count(form.NamespaceOf(req), &target)}), nil
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

// newConnection translates a connection.
func newConnection(info *hub.Info) *controlv1.Connection {
	connection := &controlv1.Connection{
		Id:              string(info.ID),
		Namespace:       info.Namespace,
		User:            info.User,
		Groups:          info.Groups,
		Protocol:        info.Protocol,
		RemoteAddress:   info.RemoteAddress,
		CreateTime:      timestamppb.New(info.Created),
		State:           connectionStates[info.Phase],
		QueuedMessages:  form.ClampCount(info.QueuedMessages),
		QueuedBytes:     info.QueuedBytes,
		UnackedMessages: form.ClampCount(info.UnackedMessages),
		LastAcked:       int64(info.LastAcked), // sequence ids stay below 2^53
		Hub:             string(info.Hub),
	}
	if info.Claims != nil {
		connection.Labels = info.Claims.Labels
	}
	if info.RoundTrip > 0 {
		connection.RoundTripTime = durationpb.New(info.RoundTrip)
	}
	return connection
}

// connectionStates has no row for PhaseClosed: the hub does not tell of closed connections.
var connectionStates = map[hub.Phase]controlv1.ConnectionState{
	hub.PhaseConnecting: controlv1.ConnectionState_CONNECTION_STATE_CONNECTING,
	hub.PhaseAttached:   controlv1.ConnectionState_CONNECTION_STATE_ATTACHED,
	hub.PhaseDetached:   controlv1.ConnectionState_CONNECTION_STATE_DETACHED,
}
