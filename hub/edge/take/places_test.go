package take

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/connhub/connhub/hub"
)

// reserveAll reserves places until there is none, and returns how many it got.
func reserveAll(p *places, from string, at hub.ID) (got int) {
	address, _ := netip.ParseAddr(from) // zero: unknown
	for p.reservePlace(address, at) {
		got++
	}
	return got
}

// TestNeitherAnAddressNorAHubHasAllPlaces: clients of a different address that ask for a hub have
// places left.
func TestNeitherAnAddressNorAHubHasAllPlaces(t *testing.T) {
	const most = 312
	for _, tc := range []struct {
		name        string
		from, later string
		at, next    hub.ID
		got, rest   int
	}{
		{"an address", "192.0.2.1", "192.0.2.2", "b", "b", most / 2, 0},
		{"an address that asks several hubs", "192.0.2.1", "192.0.2.1", "b", "c", most / 2, 0},
		{"a hub", "192.0.2.1", "192.0.2.2", "b", "b", most / 2, 0},
		{"others", "192.0.2.1", "192.0.2.2", "b", "c", most / 2, most / addressShare},
		{"unknown addresses", "", "", "b", "c", most / 2, most / hubShare},
	} {
		p := newPlaces(most)
		if got := reserveAll(p, tc.from, tc.at); got != tc.got {
			t.Errorf("%s: the first got %d places, want %d", tc.name, got, tc.got)
		}
		if got := reserveAll(p, tc.later, tc.next); got != tc.rest {
			t.Errorf("%s: the second got %d places, want %d", tc.name, got, tc.rest)
		}
	}
}

// TestNoMorePlacesThanMostAreTaken, and each is free again.
func TestNoMorePlacesThanMostAreTaken(t *testing.T) {
	const most = 64
	p := newPlaces(most)
	for range 3 {
		var releases []func()
		for i := range 2 * most {
			from, at := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), hub.ID(fmt.Sprint(i%most))
			if p.reservePlace(from, at) {
				releases = append(releases, func() { p.releasePlace(from, at) })
			}
		}
		if len(releases) != most {
			t.Fatalf("got %d places of %d", len(releases), most)
		}
		for _, release := range releases {
			release()
		}
		if p.taken+len(p.byAddress)+len(p.byHub) != 0 {
			t.Fatalf("%d places are taken at the end", p.taken)
		}
	}
}
