package moving

import (
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/hub"
)

// Links are the links of this hub. The shell calls them within Do: they must not wait, and
// must not call the shell. A message for a link that has ended is lost.
type Links interface {
	// Request sends a message beside the lanes on the link to a peer.
	Request(peer hub.ID, m *move.Message)
	// Respond sends a message beside the lanes on the link of a peer.
	Respond(peer hub.ID, m *move.Message)
	// PutMark puts a move.Mark or a move.Settled in line on a lane to a peer.
	PutMark(peer hub.ID, m *move.Message)
	// PutCall puts a move.Call or a move.Resend in line on a lane to a peer. It returns false if
	// the lane has no room.
	PutCall(peer hub.ID, m *move.Message) bool
	// HangUp ends the link to a peer, and Fence that of a peer. The mesh then tells the core.
	HangUp(peer hub.ID)
	Fence(peer hub.ID)
	// EachWaitingCall calls add with each call of this hub that the core does not know, and that
	// waits for a peer's answer. From then on the core knows it.
	EachWaitingCall(add func(number uint64, lane int, dials uint64, peer hub.ID))
	// Finish ends a call of this hub that the core knows: all hubs have answered. unknown are the
	// hubs whose link has ended before.
	Finish(number uint64, unknown []hub.ID)
	// Holder returns the peer to ask for a connection, or "". isSure says that if this peer does
	// not have the connection, and knows no hub that does, no hub has it; with "", that none has.
	Holder(namespace string, id hub.ConnectionID) (at hub.ID, isSure bool)
	// CanMove reports whether all linked hubs take part in moves: none has an older version, or a
	// different number of lanes.
	CanMove() bool
	// IsWhole reports whether this hub has a link to each peer.
	IsWhole() bool
	// ThenInForce is that of hub.Interest.
	ThenInForce(keys []hub.Key, done func(error)) (forget func())
}
