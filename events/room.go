package events

// Account bounds the memory that the subscriber holds with all its calls at the hub. It is safe for
// concurrent use, and its methods do not block: they are called under the lock of a connection.
type Account interface {
	// Reserve takes bytes until Release. It returns false, and takes nothing, if the subscriber may
	// not hold as much now.
	Reserve(bytes int64) bool
	// ReserveSpare is Reserve for bytes that the subscriber can do without.
	ReserveSpare(bytes int64) bool
	// Release gives back bytes that were reserved.
	Release(bytes int64)
}

const (
	// ownBytes is how much a subscription may hold without the account, so that a subscriber with
	// many calls in flight still hears of events. The server of the API counts it with the stream
	// (control.subscribeWeight).
	ownBytes = 32 << 10
	// roomStep is how much a room reserves at once, so that few events have to.
	roomStep = 64 << 10
)

// room counts the bytes of the events that wait in a subscription, and of those that its way out
// has taken and not released. It reserves them in the account.
//
// Invariant: held <= ownBytes + reserved. When nothing is held, nothing is reserved.
type room struct {
	account  Account // nil: no bound
	held     int64   // bytes
	reserved int64   // bytes of account
}

// holdBytes counts bytes as held. isSpare: the subscriber can do without the event. It returns
// false, and counts nothing, if the account has no room.
func (r *room) holdBytes(bytes int64, isSpare bool) bool {
	missing := r.held + bytes - ownBytes - r.reserved
	if missing > 0 && r.account != nil {
		reserve := r.account.Reserve
		if isSpare {
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

// freeBytes counts bytes as held no more.
func (r *room) freeBytes(bytes int64) {
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

// freeEvents counts the bytes of events as held no more.
func (r *room) freeEvents(events []*Event) {
	var bytes int64
	for _, e := range events {
		bytes += e.weight()
	}
	r.freeBytes(bytes)
}
