package hub

import (
	"slices"
	"sync"

	"github.com/connhub/connhub/internal/fairshare"
)

// detached knows the connections that wait for their clients. Each costs what it holds, and nobody is there: so a user, and an address, may
// have some of them only, and they go first when memory is short.
type detached struct {
	perUser, perAddress int // static

	mu sync.Mutex
	// all has the place of each in byAddress; nil: it is to be closed.
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

// userKey is what byUser counts under; ok is false for who has no user.
func (c *Connection) userKey() (_ Key, ok bool) {
	return Key{RouteUser, c.state.Namespace, c.state.User}, c.state.User != ""
}

// address is the client's host.
func (c *Connection) clientHost() string { return hostOf(c.state.RemoteAddress) }

// add takes a connection in, and returns those that must go where there are too many now: of a user the ones that have waited longest; of an
// address those of the largest user of the largest namespace. The caller closes them if they still wait. Whoever adds another one meanwhile
// may be told of the same ones.
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

// dropFromAddressLocked has a connection count no more at its address.
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

// remove lets go of one; nothing happens if it is not in.
func (d *detached) removeDetached(c *Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.all[c]; !ok {
		return
	}
	d.dropFromAddressLocked(c)
	delete(d.all, c)
	if user, ok := c.userKey(); ok {
		removeFrom(d.byUser, user, c)
	}
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
