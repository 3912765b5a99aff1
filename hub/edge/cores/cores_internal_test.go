package cores

import (
	"errors"
	"net/netip"
	"testing"
)

// hasCore reports whether a place has a core.
func (p *place) hasCore() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

func TestAddressesHaveCoresInTurnAndTheirOwnPlacesInOrder(t *testing.T) {
	many, few := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	c := New(1)
	if !c.joinLine(many).hasCore() {
		t.Fatal("a free core is not given")
	}
	var places []*place // in the order in which they should get the core
	for range 100 {
		places = append(places, c.joinLine(many))
	}
	first, second := c.joinLine(few), c.joinLine(few)
	given := func(want *place) {
		t.Helper()
		c.Release()
		for _, p := range append(places, first, second) {
			if has := p.hasCore(); has != (p == want) {
				t.Fatalf("a place has a core: %v", has)
			}
		}
	}
	given(places[0])
	places = places[1:]
	given(first)
	first = second
	c.leaveLine(places[0]) // it gives its place up
	places = places[1:]
	given(places[0])
	places = places[1:]
	given(second)
	first, second = places[0], places[0]
	for len(places) > 0 {
		first, second = places[0], places[0]
		given(places[0])
		places = places[1:]
	}
	c.Release()
	if c.free != 1 || c.addresses.Len() != 0 || len(c.queues) != 0 {
		t.Errorf("at rest: %+v", c)
	}
}

func TestAWaitForACoreEndsWhenItIsOfNoUse(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	c := New(1)
	if err := c.Acquire(netip.Addr{}, func() {}, closed, nil); !errors.Is(err, ErrDropped) ||
		c.free != 1 {
		t.Errorf("dropped: %v, %d cores free", err, c.free)
	}
	if err := c.Acquire(netip.Addr{}, func() {}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Acquire(netip.Addr{}, func() {}, nil, closed); !errors.Is(err, ErrCut) ||
		len(c.queues) != 0 {
		t.Errorf("cut: %v, %d queues", err, len(c.queues))
	}
}
