package mesh

import (
	"github.com/connhub/connhub/control/mesh/core"
)

// Words of the core that the callers of a Mesh use.
type (
	// Query describes the target of a call.
	Query = core.Query
	// Route lists the hubs for a call.
	Route = core.Route
	// Destination is a hub that gets a call.
	Destination = core.Destination
	// PeerInfo describes a peer, for operators.
	PeerInfo = core.PeerInfo
	// PeerState is the state of a peer, as this hub sees it.
	PeerState = core.PeerState
)

// The states of a peer.
const (
	PeerListed  = core.PeerListed
	PeerDialled = core.PeerDialled
	PeerLinked  = core.PeerLinked
	PeerSuspect = core.PeerSuspect
	PeerGone    = core.PeerGone
)

// ErrForgotten: peers may have forgotten this hub, so their sends may have missed its clients.
var ErrForgotten = core.ErrForgotten
