package events

import "context"

// Account is what the caller of one stream may hold in memory, with all that it does. It is safe for
// concurrent use, and its methods wait for nothing.
type Account interface {
	// Reserve takes bytes until Release. It reports false, and takes nothing, if the caller may not
	// hold as much now.
	Reserve(bytes int64) bool
	// ReserveSpare is Reserve for bytes that the caller can do without.
	ReserveSpare(bytes int64) bool
	// Release gives bytes back that were reserved.
	Release(bytes int64)
}

// AccountOf returns the account of the caller of a stream, by the context of the stream.
type AccountOf func(context.Context) Account

const (
	// ownBytes is what a subscriber may keep without its caller's account, so that a caller with much
	// in flight still hears of events. The server counts it with the stream (control.subscribeWeight).
	ownBytes = 32 << 10
	// roomStep is what a room reserves at once, so that few events have to.
	roomStep = 64 << 10
)

// room is what the events that wait for a subscriber hold, and those that are on their way to it.
// The owner is the subscriber; subscriber.mu guards it.
//
// Invariant: held <= ownBytes + reserved. When nothing is held, nothing is reserved.
type room struct {
	account  Account // nil: no bound
	held     int64   // bytes
	reserved int64   // bytes of account
}

// take counts bytes as held. spare: the caller can do without the event. It reports false, and
// counts nothing, if the caller may not hold as much now.
func (r *room) take(bytes int64, spare bool) bool {
	missing := r.held + bytes - ownBytes - r.reserved
	if missing > 0 && r.account != nil {
		reserve := r.account.Reserve
		if spare {
			reserve = r.account.ReserveSpare
		}
		more := max(missing, roomStep)
		if !reserve(more) {
			if more = missing; !reserve(more) {
				return false
			}
		}
		r.reserved += more
	}
	r.held += bytes
	return true
}

// give counts bytes as held no more.
func (r *room) give(bytes int64) {
	r.held -= bytes
	spare := r.reserved - max(0, r.held-ownBytes)
	if r.held > 0 {
		spare -= roomStep // soon needed again
	}
	if r.account != nil && spare > 0 && (r.held == 0 || spare >= roomStep) {
		r.account.Release(spare)
		r.reserved -= spare
	}
}
