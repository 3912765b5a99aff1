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
//   - Greeting and replies count as long as they wait for the link, where they are more than a client that reads lets wait.
//   - Whoever takes a budget over its bound brings it back to seven eighths, by closing connections (CauseMemory): detached ones
//     first, then others, and of either those first who hold most; but what a connection holds together with many others, for which closing
//     it frees nothing, counts in a second round.
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

// staying is what is held by those who stay: what they share with those who leave is theirs in part.
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
	closeHolders(&ns.held, c.NamespaceHeldBytes, ns.connections.all)
	closeHolders(&m.total, c.HeldBytes, m.hub.all)
}

// holder is a connection that holds something.
type holder struct {
	connection *Connection
	turn       int   // when it is closed: who has a lower one goes first
	share      int64 // of the budgets
}

// The turns. What nearly all of a group hold stays whoever of them is closed, so those who hold much by themselves come before them.
const (
	turnDetached = iota
	turnAttached
	turnDetachedWithMany
	turnAttachedWithMany
)

// manyHold is with how many others a connection shares what it holds, on average, if it has its turn behind those who hold by themselves.
const manyHold = 16

// closeHolders closes connections until used is at seven eighths of most, if it is above.
func closeHolders(used *held, most int64, everybody func(func(*Connection))) {
	if used.staying() <= most {
		return
	}
	var all []*Connection
	everybody(func(c *Connection) { all = append(all, c) }) // under a lock
	var holders []holder
	for _, c := range all {
		if h := c.holder(); h.share > 0 {
			holders = append(holders, h)
		}
	}
	slices.SortFunc(holders, func(a, b holder) int { return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(b.share, a.share)) })
	for _, h := range holders {
		if used.staying() <= most-most/8 {
			return
		}
		if how := NewClose(CauseMemory); h.turn == turnAttached || h.turn == turnAttachedWithMany {
			h.connection.Close(how)
		} else {
			h.connection.closeDetached(how)
		}
	}
}

func (c *Connection) holder() holder {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, share := c.keepsLocked()
	h := holder{c, turnDetached, share}
	if share*manyHold < all {
		h.turn = turnDetachedWithMany
	}
	if c.state.Phase != PhaseDetached {
		h.turn++
	}
	return h
}

// keepsLocked is how many bytes of the budgets are there for the connection, and how many when each message is shared out among those who
// hold it. (That has little to do with what goes over its wire: a message counts with all its forms, and one of them may be compressed.)
func (c *Connection) keepsLocked() (all, share int64) {
	all = firstWeight(c.first)
	share = all
	for _, e := range c.state.Outbox.live() {
		kept := e.tally.kept.Load()
		all += kept
		share += kept / int64(e.tally.holders())
	}
	return all, share
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
