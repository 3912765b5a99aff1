// Package transfer has the plain parts of a move of a connection between hubs: the stages, the
// errors, and the tombstones that a connection leaves behind. It imports nothing of ours.
package transfer

import "errors"

// Stage is the part that a hub has in the move of a connection. The zero Stage is Live.
type Stage uint8

const (
	// Live: the hub owns the connection, and no move is under way.
	Live Stage = iota
	// Moving: the old hub still owns the connection. It reads and writes nothing on the link, and
	// notes each change for the new hub.
	Moving
	// Sealed: the old hub has handed over the last change. The connection matches nothing here, and
	// is not the old hub's again unless the new hub says that it never took it.
	Sealed
	// Moved: the new hub owns the connection. The old hub keeps a tombstone.
	Moved
	// Shadow: the new hub holds a copy that matches nothing, and carries the old hub's changes out.
	Shadow
)

// Errors of a move.
var (
	// ErrMoving: the connection is on the move already, or not in the stage that the call needs.
	ErrMoving = errors.New("connection is on the move")
	// ErrBehind: more changes wait for the new hub than a move may keep. The move must be ended.
	ErrBehind = errors.New("too many changes wait for the new hub")
	// ErrStale: this hub has known the connection at that epoch, or a later epoch.
	ErrStale = errors.New("epoch of the move is not above the known one")
	// ErrMemory: a byte budget of this hub has no room for the messages of the connection.
	ErrMemory = errors.New("no room in the budget of held bytes")
	// ErrBroken: a change does not fit the shadow that it is for.
	ErrBroken = errors.New("change does not fit the connection")
)
