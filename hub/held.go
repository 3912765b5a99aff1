package hub

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// holdings bounds the bytes of all messages that outboxes and tails hold, and of the replies that wait for links.
//
// Problem: each outbox is bounded, but thousands of slow or detached clients together can hold more than the hub has; and what they hold is
// shared: a message to ten thousand takes its bytes once. The bound must not cost deliveries that leave nothing behind.
//
// Invariants:
//   - A message counts from the moment that its push, and the flush behind it, have left it somewhere, until nobody holds it: its payload and
//     each of its encoded forms once, in the hub's budget and in its namespace's.
//   - Greeting and replies count as long as they wait, where they are more than a client that reads lets wait.
//   - Whoever takes a budget over its bound brings it back to seven eighths, by closing connections (CauseMemory): detached ones
//     first, the largest of them first, as long as that frees something; then those who hold most.
//
// Outline: the tally of a message knows when nobody holds it (tally.settle). reclaim looks for whom to close; one goroutine at a time does.
type holdings struct {
	hub        *Hub // static
	total      held
	reclaiming sync.Mutex
}

// held is how many bytes are in a budget.
type held struct {
	bytes   atomic.Int64
	leaving atomic.Int64 // of connections that are closed; their links have yet to end
}

// staying is what is held by those who stay; less than that, where they share it with those who leave.
func (h *held) staying() int64 { return h.bytes.Load() - h.leaving.Load() }

// leave counts bytes of a connection that is closed; they are given back when its link has ended.
func (ns *namespace) leave(bytes int64) {
	if bytes != 0 {
		ns.held.leaving.Add(bytes)
		ns.hub.holdings.total.leaving.Add(bytes)
	}
}

// keep counts what a message holds from now on, unless nobody holds it any more.
func (m *holdings) keep(ns *namespace, t *tally, bytes int64) {
	if t.reached(WaitAcked) {
		return
	}
	ns.hold(bytes)
	t.keeper = ns
	t.kept.Store(bytes)
	t.settle() // the last one may have let go of it before it was counted
	m.bound(ns)
}

// bound closes connections if a budget is over its bound.
func (m *holdings) bound(ns *namespace) {
	for tries := 0; tries < 2 && m.over(ns); tries++ { // again, for who was told that another one is at it
		m.reclaim(ns)
	}
}

// messageOverhead is about what a message takes besides its text: its fate, its forms, its places in outboxes.
const messageOverhead = 512

// weight is what a message takes, without its forms.
func weight(m *Message) int64 {
	n := messageOverhead + len(m.Payload) + len(m.Event)
	for name, value := range m.Metadata {
		n += len(name) + len(value)
	}
	return int64(n)
}

// hold counts bytes that are held now; below zero: that are not any more.
func (ns *namespace) hold(bytes int64) {
	ns.held.bytes.Add(bytes)
	ns.hub.holdings.total.bytes.Add(bytes)
}

func (m *holdings) over(ns *namespace) bool {
	c := &m.hub.config
	return m.total.staying() > c.HeldBytes || ns.held.staying() > c.NamespaceHeldBytes
}

// reclaim closes connections until both budgets are well below their bounds. While one goroutine does, others go on.
func (m *holdings) reclaim(ns *namespace) {
	if !m.reclaiming.TryLock() {
		return
	}
	defer m.reclaiming.Unlock()
	c := &m.hub.config
	m.closeLargest(&ns.held, c.NamespaceHeldBytes, func(yield func(*Connection)) { ns.connections.all(yield) },
		func(c *Connection) bool { return c.namespace == ns })
	m.closeLargest(&m.total, c.HeldBytes, m.hub.all, func(*Connection) bool { return true })
}

// detachedTried is how many detached connections are closed before it counts what that frees: where it is less than an eighth of what they
// hold, others hold it too, and the rest of them may stay.
const detachedTried = 16

// closeLargest closes connections, of those for which within is true, until used is at seven eighths of most.
func (m *holdings) closeLargest(used *held, most int64, everybody func(func(*Connection)), within func(*Connection) bool) {
	if used.staying() <= most {
		return
	}
	enough := func() bool { return used.staying() <= most-most/8 }
	waiting := slices.DeleteFunc(m.hub.detached.list(), func(c *Connection) bool { return !within(c) })
	closed, theirs, before := 0, int64(0), used.staying()
	inVain := func() bool { return closed >= detachedTried && (before-used.staying())*8 < theirs }
	closeFirst(waiting, func() bool { return enough() || inVain() }, func(c *Connection, how Close) bool {
		closed++
		theirs += c.holds()
		return c.closeDetached(how)
	})
	if enough() {
		return
	}
	var all []*Connection
	everybody(func(c *Connection) { all = append(all, c) })
	closeFirst(all, enough, (*Connection).Close)
}

// closeFirst closes connections that hold something, those that hold most first, until it is enough.
func closeFirst(all []*Connection, enough func() bool, closes func(*Connection, Close) bool) {
	type holder struct {
		connection *Connection
		bytes      int64
	}
	var holders []holder
	for _, c := range all {
		if n := c.holds(); n > 0 {
			holders = append(holders, holder{c, n})
		}
	}
	slices.SortFunc(holders, func(a, b holder) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, h := range holders {
		if enough() {
			return
		}
		closes(h.connection, NewClose(CauseMemory))
	}
}

// holds is how many bytes of the budgets are for the connection: messages, shared with others or not, and replies.
func (c *Connection) holds() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keepsLocked() + firstWeight(c.first)
}

// keepsLocked is how many bytes of the budgets its messages take. That has little to do with what goes over its wire: a message counts with all
// its forms, and one of them may be compressed.
func (c *Connection) keepsLocked() (bytes int64) {
	for _, e := range c.state.Outbox.live() {
		bytes += e.tally.kept.Load()
	}
	return bytes
}

// all calls yield for every connection.
func (h *Hub) all(yield func(*Connection)) {
	h.mu.RLock()
	all := make([]*namespace, 0, len(h.namespaces))
	for _, ns := range h.namespaces {
		all = append(all, ns)
	}
	h.mu.RUnlock()
	for _, ns := range all {
		ns.connections.all(yield)
	}
}
