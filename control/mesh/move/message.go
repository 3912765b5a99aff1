package move

import (
	"fmt"

	"github.com/connhub/connhub/hub"
)

// ID names a move. An attempt that fails and the next attempt have different ids.
type ID struct {
	// From is the old hub.
	From hub.ID
	// Number counts the moves that From has begun, from 1.
	Number uint64
}

// Move has the facts of a move, the same at all hubs.
type Move struct {
	ID

	// Connection is the connection that moves.
	Connection hub.ConnectionID
	// To is the new hub.
	To hub.ID
	// Epoch is the connection's at the new hub.
	Epoch uint32
}

// Origin is a stream of calls in order: a lane of a hub. A hub is an origin for itself, too.
type Origin struct {
	// Hub is the entry hub of the calls.
	Hub hub.ID
	// Lane is the number of the lane, from 0.
	Lane int
}

// Kind is the kind of a Message.
type Kind uint8

// The kinds. Each is a request or a response on the link that the first hub has dialled. The
// requests of a lane are in order, and so are the requests and the responses beside the lanes.
const (
	// Old hub and new hub.

	Offer    Kind = iota + 1 // request: Body is the snapshot
	Changes                  // request: Body is the list of changes since the last message
	Last                     // request: as Changes, and Marked; the connection is sealed
	Abort                    // request: the move has failed at the old hub
	Query                    // request: the outcome of the move is unknown
	Released                 // request: Body is how the connection was closed since Last, or nil
	Over                     // request: the old hub has forgotten the move
	Shadowed                 // response: the new hub has the snapshot, and has announced the move
	Never                    // response: the new hub never takes the connection by this move
	Adopted                  // response: the new hub owns the connection; Complete

	// Origin and new hub.

	Announce // response: the origin must mark its lanes
	Settle   // response: the old hub had no mark of the origin in time, so Settled must come
	Done     // response: the origin may forget the move

	// Origin and any hub, on a lane.

	Call    // request: Number, Body
	Result  // response: Number, Moved, with Moved also Body. The hub has done its part of the call
	Mark    // request: calls before it belong to the old hub, calls behind it to the new hub
	Resend  // request: Number and Body of a call before the mark that the old hub has not taken
	Settled // request: no more of them come

	// A hub with a client, and the hub that holds the client's connection.

	Take      // request: Move.Connection moves to the hub of the client; Body is its proof
	Refused   // response: it does not; IsFinal
	Elsewhere // response: Hub holds it

	kindEnd
)

//nolint:gochecknoglobals // a table
var kindNames = [kindEnd]string{
	Offer: "offer", Changes: "changes", Last: "last", Abort: "abort", Query: "query",
	Released: "released", Over: "over", Shadowed: "shadowed", Never: "never", Adopted: "adopted",
	Announce: "announce", Settle: "settle", Done: "done", Call: "call", Result: "result",
	Mark: "mark", Resend: "resend", Settled: "settled", Take: "take", Refused: "refused",
	Elsewhere: "elsewhere",
}

// String returns the kind's name.
func (k Kind) String() string { return kindNames[k] }

// IsOfLane reports whether such messages travel on a lane.
func (k Kind) IsOfLane() bool { return Call <= k && k <= Settled }

// Message is a message between hubs: about a move, or a call.
type Message struct {
	// Kind says which of the fields below are set.
	Kind Kind
	// Move is set in each message but Call and Result. Take, Refused and Elsewhere have only its
	// connection.
	Move Move
	// Lane is that of a message on a lane.
	Lane int
	// Number is a call's among the calls of its origin.
	Number uint64
	// Body is the shell's. The core hands it on and never looks at it.
	Body any
	// Marked are the origins whose marks the old hub had when it sealed the connection.
	Marked []Origin
	// Complete says that each origin knows the new hub, so the old hub may forget the move.
	Complete bool
	// Moved are the moves of connections that have left the old hub. The call has come without the
	// origin's mark, so the old hub can't tell whether the new hub has taken it.
	Moved []Move
	// IsFinal says that the client can't have the connection back. Otherwise it may ask again.
	IsFinal bool
	// Hub is that of Elsewhere.
	Hub hub.ID
}

func (i ID) String() string { return fmt.Sprintf("%s#%d", i.From, i.Number) }
