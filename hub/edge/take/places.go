package take

import (
	"net/netip"
	"sync"

	"github.com/connhub/connhub/hub"
)

// While half of the places are free, any take has one. Then an address has an addressShare of the
// places at most, and a hub that is asked a hubShare. So neither an address nor a hub that does not
// answer keeps the clients of other hubs out. Behind a proxy all clients have a single address, and
// in a cluster of two hubs all takes ask the same hub: they have half of the places.
const (
	addressShare = 8
	hubShare     = 4
)

// places are the places for the takes under way. It is safe for concurrent use.
type places struct {
	most int // static

	mu        sync.Mutex // a leaf
	taken     int
	byAddress map[netip.Addr]int
	byHub     map[hub.ID]int
}

func newPlaces(most int64) *places {
	return &places{
		most: int(most), byAddress: make(map[netip.Addr]int), byHub: make(map[hub.ID]int),
	}
}

// reservePlace counts a take. from is the client's address; zero: unknown, which has no share. at
// is the hub that the connection's id names. It returns false if there is no place.
func (p *places) reservePlace(from netip.Addr, at hub.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	isCrowded := p.taken >= p.most/2
	switch {
	case p.taken >= p.most:
		return false
	case isCrowded && from.IsValid() && p.byAddress[from] >= max(1, p.most/addressShare):
		return false
	case isCrowded && p.byHub[at] >= max(1, p.most/hubShare):
		return false
	}
	p.taken++
	p.byAddress[from]++
	p.byHub[at]++
	return true
}

// releasePlace ends what reservePlace has begun.
func (p *places) releasePlace(from netip.Addr, at hub.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.byAddress[from]--; p.byAddress[from] == 0 {
		delete(p.byAddress, from)
	}
	if p.byHub[at]--; p.byHub[at] == 0 {
		delete(p.byHub, at)
	}
}
