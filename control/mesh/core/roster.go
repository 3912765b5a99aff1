package core

import (
	"slices"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// roster has every peer that this hub knows, and finds the peers of links.
type roster struct {
	peers map[hub.ID]*peer
	order []hub.ID // sorted ids of peers: effects come in the same order every time
}

// ensurePeer returns the peer with id. It creates the peer if there is none.
func (r *roster) ensurePeer(now time.Duration, id hub.ID) *peer {
	p := r.peers[id]
	if p == nil {
		p = &peer{id: id, redial: now}
		r.peers[id] = p
		i, _ := slices.BinarySearch(r.order, id)
		r.order = slices.Insert(r.order, i, id)
	}
	return p
}

// CountsMember reports whether this hub counts id as a member.
func (r *roster) CountsMember(now time.Duration, id hub.ID) bool {
	p := r.peers[id]
	return p != nil && p.isMember(now)
}

// forgiveDelay extends the peers' time limits by a delay of this hub itself: a stopped process, or
// an overloaded machine. While there is a link, calls come at least every ProbeInterval, so the
// excess over that is the delay. Leases are not extended.
func (r *roster) forgiveDelay(since time.Duration) {
	late := since - ProbeInterval
	if late <= 0 {
		return
	}
	for _, p := range r.peers {
		if p.out != nil && p.out.linked {
			p.out.filter.heard += late
		}
		if p.in != nil {
			p.in.heard += late
		}
	}
}

func (r *roster) findDial(id hub.ID, epoch uint64) *peer {
	if p := r.peers[id]; p != nil && p.out != nil && p.out.epoch == epoch && !p.out.linked {
		return p
	}
	return nil
}

func (r *roster) findLinked(id hub.ID, epoch uint64) *peer {
	if p := r.peers[id]; p != nil && p.out != nil && p.out.epoch == epoch && p.out.linked {
		return p
	}
	return nil
}

// AdmitsLink reports whether the link of that epoch, which a peer dialled, is open. Only then may
// its lanes open and continue.
func (r *roster) AdmitsLink(id hub.ID, epoch uint64) bool {
	p := r.peers[id]
	return p != nil && p.in != nil && p.in.epoch == epoch && !p.in.ending
}

// listMembers returns the hubs that this hub tells its peers of.
func (r *roster) listMembers(now time.Duration) (all []*peerv1.Member) {
	for _, id := range r.order {
		p := r.peers[id]
		fits := len(id) <= maxHubID && p.address != "" && len(p.address) <= maxAddress &&
			len(all) < maxMembers
		if fits && p.isAnnounced(now) {
			all = append(all, &peerv1.Member{Hub: string(id), Address: p.address})
		}
	}
	return all
}

// PeerInfos describes every peer, sorted by id.
func (r *roster) PeerInfos(now time.Duration) []PeerInfo {
	infos := make([]PeerInfo, 0, len(r.order))
	for _, id := range r.order {
		p := r.peers[id]
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

// removePeer forgets a peer.
func (r *roster) removePeer(id hub.ID) {
	delete(r.peers, id)
	r.order = slices.DeleteFunc(r.order, func(other hub.ID) bool { return other == id })
}

// HasLink reports whether this hub has a link to id, which it has dialled with epoch.
func (r *roster) HasLink(id hub.ID, epoch uint64) bool { return r.findLinked(id, epoch) != nil }
