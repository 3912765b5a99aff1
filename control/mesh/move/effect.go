package move

import "github.com/connhub/connhub/hub"

// Effect is an order of the core to the shell. The shell carries out the effects of a call in their
// order, and reports the result of each where the effect asks for it, before it goes on.
type Effect interface{ isEffect() }

// Effects on links.
type (
	// Request orders: send Message on the link that this hub dialled.
	Request struct {
		Hub     hub.ID  // the dialled hub
		Message Message // the shell must not change it
	}
	// Response orders: send Message on the link that the peer dialled. A Result for this hub itself
	// only tells the shell: the core has taken it.
	Response struct {
		Hub     hub.ID  // the peer that dialled, or this hub
		Message Message // the shell must not change it
	}
	// Fence orders: end the link that the peer dialled. The core holds too many calls for it. Then
	// call Core.HandleLinkEnd, as for each end of a link.
	Fence struct {
		Hub hub.ID // the peer that dialled
	}
	// HangUp orders: end the link that this hub dialled. The peer delays too many calls of this
	// hub. Then call Core.HandleLinkLoss, as for each end of a link.
	HangUp struct {
		Hub hub.ID // the dialled hub
	}
)

// Effects on connections of this hub as the old hub: methods of hub.Moves.
type (
	// Freeze orders Moves.Freeze. Then call Core.HandleFrozen, or Core.HandleFailure.
	Freeze struct {
		Move Move // has no epoch yet
	}
	// Collect orders Moves.Changes. Call Core.HandleChanges if there are any, or
	// Core.HandleFailure.
	Collect struct {
		Move Move // the move
	}
	// Seal orders Moves.Seal. Call Core.HandleSealed, or Core.HandleFailure.
	Seal struct {
		Move Move // the move
	}
	// Thaw orders Moves.Thaw: the move has failed, and the connection goes on here.
	Thaw struct {
		Move Move // the move
	}
	// Release orders Moves.Release. Call Core.HandleReleased.
	Release struct {
		Move Move // the move
		// IsLost says that the connection has ended: the new hub is dead, or calls were lost.
		IsLost bool
		// IsInDoubt says that the new hub has not answered for Config.DoubtTime. It may own the
		// connection.
		IsInDoubt bool
	}
)

// Effects on connections of this hub as the new hub: methods of hub.Moves, and a close.
type (
	// Adopt orders Moves.Adopt. Call Core.HandleAdopted, or Core.HandleFailure.
	Adopt struct {
		Move Move // the move
		Body any  // the snapshot
	}
	// Apply orders Moves.Apply for each change. If IsLast, call Core.HandleApplied. If it fails,
	// call Core.HandleFailure.
	Apply struct {
		Move   Move // the move
		Body   any  // the changes
		IsLast bool // no more changes come
	}
	// Commit orders Moves.Commit.
	Commit struct {
		Move Move // the move
	}
	// Abandon orders Moves.Abandon.
	Abandon struct {
		Move Move // the move
	}
	// Close orders: close the connection as the old hub has, since Last. If the connection is in
	// doubt here, Release tells of the close.
	Close struct {
		Move Move // the move
		Body any  // how
	}
)

// Effects on calls.
type (
	// Execute orders: carry the call out for all connections of this hub that it matches, apart
	// from Except.
	Execute struct {
		From   Origin             // the lane of the call
		Number uint64             // the call's
		Body   any                // the call
		Except []hub.ConnectionID // these move, and the call is not for them now
		// Held are those of Except that the call waits for here, and not at a second hub, too.
		Held []hub.ConnectionID
		// MayReturn says that a connection of Held is about to leave this hub. Until Result has
		// come, the origin may have to send the call again (Result.Moved).
		MayReturn bool
	}
	// Deliver orders: carry out a call that was held, or resent, for Connection alone, if the call
	// matches it. The connection is in the tables.
	Deliver struct {
		From       Origin           // the lane of the call
		Number     uint64           // the call's
		Body       any              // the call
		Connection hub.ConnectionID // gets the call
	}
	// Finish says that all hubs have done their parts of a call that began here. The call may
	// return. Unknown are the hubs whose link ended before.
	Finish struct {
		Number  uint64   // the call's
		Unknown []hub.ID // sorted
	}
)

// Effects on clients that resume.
type (
	// Look orders: find the connection, check the proof that the peer's client shows, and call
	// Core.HandleStanding.
	Look struct {
		Connection hub.ConnectionID // the client's
		For        hub.ID           // the hub of the client
		Proof      any              // that of StartTake
	}
	// Taken says that the connection is here: the client can have its link.
	Taken struct {
		Connection hub.ConnectionID // the client's
	}
	// Refuse says that the client does not get its connection here. IsFinal: it is upgraded and
	// closed with 1008. Otherwise it gets 503 before the upgrade, and asks again.
	Refuse struct {
		Connection hub.ConnectionID // the client's
		IsFinal    bool             // it never will
		// IsSearched says that each peer with a link was asked. A hub without a link may have it.
		IsSearched bool
	}
)

func (Request) isEffect()  {}
func (Response) isEffect() {}
func (Fence) isEffect()    {}
func (HangUp) isEffect()   {}
func (Freeze) isEffect()   {}
func (Collect) isEffect()  {}
func (Seal) isEffect()     {}
func (Thaw) isEffect()     {}
func (Release) isEffect()  {}
func (Adopt) isEffect()    {}
func (Apply) isEffect()    {}
func (Commit) isEffect()   {}
func (Abandon) isEffect()  {}
func (Close) isEffect()    {}
func (Execute) isEffect()  {}
func (Deliver) isEffect()  {}
func (Finish) isEffect()   {}
func (Look) isEffect()     {}
func (Taken) isEffect()    {}
func (Refuse) isEffect()   {}
