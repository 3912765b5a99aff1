package core

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// Query describes the target of a call, as far as the choice of hubs needs it.
type Query struct {
	// Hashes of the target's users, groups and connections, or of the namespace for everyone.
	Hashes []Hash
	// Hubs where the target's connections were born, sorted.
	Hubs []hub.ID
}

// Destination is a hub that gets a call.
type Destination struct {
	// Hub is the id of the hub.
	Hub   hub.ID
	Epoch uint64 // of the link
	// Flood: the hub gets the call because this hub has no filter lease from it. It may have no
	// matching clients.
	Flood bool
	// Suspect: the hub has been silent for 500 ms. It gets the call, but its outcome is reported as
	// unknown without a wait.
	Suspect bool
}

// Route lists the hubs for a call.
type Route struct {
	// To lists the hubs that get the call, sorted.
	To []Destination
	// Unreachable members: this hub has no link to them. Whether they have matching clients is
	// unknown.
	Unreachable []hub.ID
}

// FindRoute finds the hubs for a call. now must be read after the call began: an earlier time could
// stretch a lease.
//
// Every member that may have matching clients is in To or in Unreachable. A hub that is left out
// has confirmed, within the lease, that it has none, or has said farewell: then it never has any.
//
// memory is an empty slice for Route.To, whose room spares an allocation; nil: none.
func (c *Core) FindRoute(memory []Destination, now time.Duration, q Query) Route {
	hashes := q.Hashes
	if c.mask != ^Hash(0) {
		hashes = slices.Clone(hashes)
		for i := range hashes {
			hashes[i] &= c.mask
		}
	}
	r := Route{To: memory}
	for _, id := range c.order {
		p := c.peers[id]
		switch o := p.out; {
		case p.farewell: // its links are about to end
		case o != nil && o.linked:
			flood := !o.filter.holdsLease(now)
			if flood || bornAt(q.Hubs, id) || o.filter.wantsAny(hashes) {
				r.To = append(r.To, Destination{id, o.epoch, flood, o.filter.isSuspect(now)})
			}
		case p.isMember(now):
			r.Unreachable = append(r.Unreachable, id)
		}
	}
	return r
}

// PeerInfo describes a peer, for operators.
type PeerInfo struct {
	Hub   hub.ID    // its id
	State PeerState // as this hub sees it

	// Name, Zone and Version are those of its latest hello. Address is where this hub dials it.
	Name, Zone, Version, Address string

	Listed        bool // it has a key in etcd
	Lease         bool // this hub filters calls by its interest
	Draining      bool // it said that it leaves
	Interest      int  // hashes of its interest
	InterestBytes int  // memory for them at this hub, in bytes
}

func bornAt(hubs []hub.ID, id hub.ID) bool {
	_, found := slices.BinarySearch(hubs, id)
	return found
}
