package mesh

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// Query says whom a call is for, as far as it decides which hubs get it.
type Query struct {
	// Hashes of the target's users, groups and connections, or of the namespace for everyone.
	Hashes []Hash
	// Hubs where the target's connections were born, in order.
	Hubs []hub.ID
}

// Destination is one hub that gets a call.
type Destination struct {
	Hub   hub.ID
	Epoch uint64 // of the link
	// Flood: it gets the call because there is no filter lease, and may have nobody.
	Flood bool
	// Suspect: it has been silent for 500 ms. It gets the call, but its outcome is reported as unknown without waiting.
	Suspect bool
}

// Route is where a call goes.
type Route struct {
	To []Destination
	// Unreachable members: there is no link to them. Whether they have somebody is unknown.
	Unreachable []hub.ID
}

// findRoute finds the hubs that get a call. The time must be read after the call began: an earlier one could stretch a lease.
//
// Every member that may have somebody is in To or in Unreachable. A hub that is left out has confirmed, within the
// lease, that it has nobody.
func (c *core) findRoute(now time.Duration, q Query) Route {
	hashes := q.Hashes
	if c.mask != ^Hash(0) {
		hashes = slices.Clone(hashes)
		for i := range hashes {
			hashes[i] &= c.mask
		}
	}
	var r Route
	for _, id := range c.order {
		p := c.peers[id]
		switch o := p.out; {
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

// PeerInfo is how this hub stands with another one, for operators.
type PeerInfo struct {
	Hub                          hub.ID
	State                        PeerState
	Name, Zone, Version, Address string
	Listed                       bool // it has a key in etcd
	Lease                        bool // calls are filtered by its interest
	Draining                     bool
	Interest                     int // hashes that it has
	InterestBytes                int // what they take here
}

// peerInfos tells of every peer, in the order of their ids.
func (c *core) peerInfos(now time.Duration) []PeerInfo {
	infos := make([]PeerInfo, 0, len(c.order))
	for _, id := range c.order {
		p := c.peers[id]
		info := PeerInfo{
			Hub: id, State: p.stateAt(now), Address: p.address, Listed: p.listed,
			Draining: p.draining,
			Name:     p.hello.GetName(), Zone: p.hello.GetZone(), Version: p.hello.GetVersion(),
		}
		if o := p.out; o != nil && o.linked {
			info.Lease = o.filter.holdsLease(now)
			info.Interest, info.InterestBytes = o.filter.table.len, o.filter.table.countBytes()
		}
		infos = append(infos, info)
	}
	return infos
}

func bornAt(hubs []hub.ID, id hub.ID) bool {
	_, found := slices.BinarySearch(hubs, id)
	return found
}
