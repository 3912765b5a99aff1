package hub

import (
	"slices"
	"sync"

	"github.com/connhub/connhub/internal/fairshare"
)

// detached lists the connections that wait for their clients. Each costs memory for a client that
// is absent. So a user, and an address, may have a bounded number of them, and they go first when
// memory is short.
type detached struct {
	perUser, perAddress int // static

	mu sync.Mutex
	// all has the place of each in byAddress; nil: the caller of addDetached is about to close it.
	all       map[*Connection]*fairshare.UserArrivals[*Connection]
	byUser    map[Key][]*Connection // in the order of detaching
	byAddress map[string]*fairshare.Arrivals[*Connection]
}

func newDetached(c *Config) *detached {
	return &detached{
		perUser: c.DetachedPerUser, perAddress: c.DetachedPerAddress,
		all:       make(map[*Connection]*fairshare.UserArrivals[*Connection]),
		byUser:    make(map[Key][]*Connection),
		byAddress: make(map[string]*fairshare.Arrivals[*Connection]),
	}
}

// userKey returns the key in byUser. ok is false if the client has no user.
func (c *Connection) userKey() (_ Key, ok bool) {
	return Key{RouteUser, c.state.Namespace, c.state.User}, c.state.User != ""
}

// clientHost returns the client's host, without the port.
func (c *Connection) clientHost() string { return hostOf(c.state.RemoteAddress) }

// addDetached lists a connection, and returns those that must go because there are too many now: of
// a user those that have waited longest, of an address those of the largest user of the largest
// namespace. The caller closes them if they still wait. Concurrent calls may return the same
// connections.
func (d *detached) addDetached(c *Connection) (surplus []*Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	address := c.clientHost()
	there := d.byAddress[address]
	if there == nil {
		there = &fairshare.Arrivals[*Connection]{}
		d.byAddress[address] = there
	}
	d.all[c] = there.Add(c.state.Namespace, c.state.Payer(), c)
	if user, ok := c.userKey(); ok {
		d.byUser[user] = append(d.byUser[user], c)
		if all := d.byUser[user]; len(all) > d.perUser {
			surplus = append(surplus, all[:len(all)-d.perUser]...)
		}
		for _, x := range surplus {
			d.dropFromAddressLocked(x)
		}
	}
	for there.Len() > d.perAddress {
		_, x := there.First()
		d.dropFromAddressLocked(x)
		surplus = append(surplus, x)
	}
	return surplus
}

// dropFromAddressLocked stops counting a connection at its address.
func (d *detached) dropFromAddressLocked(c *Connection) {
	from := d.all[c]
	if from == nil {
		return
	}
	d.all[c] = nil
	address := c.clientHost()
	there := d.byAddress[address]
	there.Remove(from, c)
	if there.Len() == 0 {
		delete(d.byAddress, address)
	}
}

// removeDetached removes a connection from the list. It returns false if c is not listed.
func (d *detached) removeDetached(c *Connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.all[c]; !ok {
		return false
	}
	d.dropFromAddressLocked(c)
	delete(d.all, c)
	if user, ok := c.userKey(); ok {
		removeFrom(d.byUser, user, c)
	}
	return true
}

func removeFrom[K comparable](m map[K][]*Connection, key K, c *Connection) {
	left := m[key]
	if i := slices.Index(left, c); i >= 0 {
		left = slices.Delete(left, i, i+1)
	}
	if len(left) == 0 {
		delete(m, key)
	} else {
		m[key] = left
	}
}

func (d *detached) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

func (d *detached) hasConnection(c *Connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.all[c]
	return ok
}
