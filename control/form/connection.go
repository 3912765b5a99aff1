package form

import (
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// NewConnection translates a connection.
func NewConnection(info *hub.Info) *controlv1.Connection {
	connection := &controlv1.Connection{
		Id:              string(info.ID),
		Namespace:       info.Namespace,
		User:            info.User,
		Groups:          info.Groups,
		Protocol:        info.Protocol,
		RemoteAddress:   info.RemoteAddress,
		CreateTime:      timestamppb.New(info.Created),
		State:           connectionStates[info.Phase],
		QueuedMessages:  ClampCount(info.QueuedMessages),
		QueuedBytes:     info.QueuedBytes,
		UnackedMessages: ClampCount(info.UnackedMessages),
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
