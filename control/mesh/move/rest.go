package move

import (
	"time"

	"github.com/connhub/connhub/hub"
)

// RestTime is the time for which a connection stays at a hub to which it has moved for a client,
// before it moves on for a client. A client that goes from hub to hub would otherwise delay the
// calls of all hubs with each move. A drain does not wait for it.
const RestTime = time.Second

// rests are the connections that have moved to a hub for a client, each with the time until which
// it stays.
type rests struct {
	until map[hub.ConnectionID]time.Duration
	order []rest // oldest first; some are replaced
}

type rest struct {
	connection hub.ConnectionID
	until      time.Duration
}

// addRest notes that a connection has moved to this hub for a client.
func (r *rests) addRest(now time.Duration, connection hub.ConnectionID) {
	for len(r.order) > 0 && r.order[0].until <= now-RestTime { // takeEnded had time to see it
		if r.until[r.order[0].connection] == r.order[0].until {
			delete(r.until, r.order[0].connection)
		}
		r.order[0] = rest{}
		r.order = r.order[1:]
	}
	r.until[connection] = now + RestTime
	r.order = append(r.order, rest{connection, now + RestTime})
}

// isResting reports whether a connection must not move on for a client yet.
func (r *rests) isResting(now time.Duration, connection hub.ConnectionID) bool {
	return r.until[connection] > now
}

// nextEnd returns when the next rest ends that a client waits for.
func (r *rests) nextEnd(wanted takers) time.Duration {
	at := never
	for connection := range wanted {
		if until, rests := r.until[connection]; rests {
			at = min(at, until)
		}
	}
	return at
}

// takeEnded returns the connections that clients wait for, and that rest no more.
func (r *rests) takeEnded(now time.Duration, wanted takers) (ended []hub.ConnectionID) {
	for _, connection := range sortedKeys(wanted) {
		if until, rests := r.until[connection]; rests && until <= now {
			delete(r.until, connection)
			ended = append(ended, connection)
		}
	}
	return ended
}
