package hub

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
)

// holdings bounds the bytes of all messages that outboxes and tails hold, and of the replies that wait for links.
//
// Problem: each outbox is bounded, but thousands of slow or detached clients together can hold more than the hub has; and what they hold is
// shared: a message to ten thousand takes its bytes once. The bound must not cost deliveries that leave nothing behind.
//
// Invariants:
//   - A message counts from the moment that its push, and the flush behind it, have left it somewhere, until nobody holds it: its payload and
//     each of its encoded forms once, in the hub's budget and in its namespace's.
//   - An outbox whose list of messages has grown counts with that list, as its connection's own. A list
//     of eight has no part in it: a client that reads needs no more, and does without the counters.
//   - Greeting and replies count as long as they wait for the link, where they are more than a client that reads lets wait.
//   - The goroutine that takes a budget over its bound brings it back to seven eighths. It closes connections (cause.Memory) by fair shares:
//     the largest connection of the largest user of the largest namespace, again and again (fairshare). A detached connection goes before an
//     attached one that holds as much. What a connection holds together with many others, so that closing it frees nothing, comes late.
//   - A closed connection lets go of what it has written. What its link has taken and not yet written counts until the link
//     has ended, but nobody else pays for it. Closed connections hold an eighth of the hub's budget at most: above that the
//     links of those that hold something are cut without a goodbye.
//
// Outline: the tally of a message knows when nobody holds it (tally.settle). reclaim picks the connections to close. Only one goroutine runs it
// at a time. It looks at every connection, so it must be rare: an eighth of the budget must fill up between two runs.
type holdings struct {
	hub        *Hub // static
	total      held
	reclaiming sync.Mutex
}

// held is how many bytes are in a budget.
type held struct {
	bytes   atomic.Int64
	leaving atomic.Int64 // of connections that are closed; their links have yet to end
	vain    atomic.Int64 // up to so many that stay, no new search: the last was in vain; 0: it was not
}

// staying is what is held by those who stay: what they share with those who leave is theirs in part.
func (h *held) stayingBytes() int64 { return h.bytes.Load() - h.leaving.Load() }

// leave counts bytes of a connection that is closed; they are given back when its link has ended.
func (ns *namespace) countLeaving(bytes int64) {
	if bytes != 0 {
		ns.held.leaving.Add(bytes)
		ns.hub.holdings.total.leaving.Add(bytes)
	}
}

// keep counts what a message holds from now on, unless nobody holds it any more.
func (m *holdings) countMessage(ns *namespace, t *tally, bytes int64) {
	if t.hasReached(WaitAcked) {
		return
	}
	ns.countHeld(bytes)
	t.keeper = ns
	t.kept.Store(bytes)
	t.releaseBudget() // the last one may have let go of it before it was counted
	m.enforceBounds(ns)
}

// bound closes connections if a budget is over its bound.
func (m *holdings) enforceBounds(ns *namespace) {
	for tries := 0; tries < 2 && m.exceedsBounds(ns); tries++ { // again, for who was told that another one is at it
		m.reclaimBudgets(ns)
	}
}

// messageOverhead is about what a message takes besides its text: its fate, its forms, its places in outboxes.
const messageOverhead = 512

// weight is what a message takes, without its forms.
func messageWeight(m *Message) int64 {
	n := messageOverhead + len(m.Payload) + len(m.Event)
	for name, value := range m.Metadata {
		n += len(name) + len(value)
	}
	return int64(n)
}

// hold counts bytes that are held now; below zero: that are not any more.
func (ns *namespace) countHeld(bytes int64) {
	ns.held.bytes.Add(bytes)
	ns.hub.holdings.total.bytes.Add(bytes)
}

// reserveBytes counts bytes that are to be held, unless they take a budget over its bound. It
// reports whether they are counted.
func (ns *namespace) reserveBytes(bytes int64) bool {
	m := &ns.hub.holdings
	if !ns.held.reserveBytes(bytes, m.hub.config.NamespaceHeldBytes) {
		return false
	}
	if !m.total.reserveBytes(bytes, m.hub.config.HeldBytes) {
		ns.held.bytes.Add(-bytes)
		return false
	}
	return true
}

// reserveBytes adds bytes, if no more than most stay then.
func (h *held) reserveBytes(bytes, most int64) bool {
	for {
		now := h.bytes.Load()
		if now-h.leaving.Load()+bytes > most {
			return false
		}
		if h.bytes.CompareAndSwap(now, now+bytes) {
			return true
		}
	}
}

// leavingShare is the part of HeldBytes, as a divisor, that closed connections may hold besides it until their links have ended.
const leavingShare = 8

// leavesTooMuch reports whether closed connections hold more than they may.
func (m *holdings) leavesTooMuch() bool {
	return m.total.leaving.Load() > m.hub.config.HeldBytes/leavingShare
}

func (m *holdings) exceedsBounds(ns *namespace) bool {
	c := &m.hub.config
	return m.total.exceedsBound(c.HeldBytes) || ns.held.exceedsBound(c.NamespaceHeldBytes)
}

// over reports whether the budget is over its bound, and a search for holders may find some.
func (h *held) exceedsBound(most int64) bool {
	staying, vain := h.stayingBytes(), h.vain.Load()
	if staying <= most {
		if vain != 0 {
			h.vain.Store(0)
		}
		return false
	}
	return staying > vain
}

// reclaim closes connections until both budgets are well below their bounds. While one goroutine does, others go on.
func (m *holdings) reclaimBudgets(ns *namespace) {
	if !m.reclaiming.TryLock() {
		return
	}
	defer m.reclaiming.Unlock()
	c := &m.hub.config
	ns.held.reclaimBytes(c.NamespaceHeldBytes, ns.connections.eachValue)
	m.total.reclaimBytes(c.HeldBytes, m.hub.eachConnection)
}

// manyHold is the number of connections that share a message, on average, from which on closing one of them is taken to free nothing.
const manyHold = 16

// againShare is the part of a budget, as a divisor, that must come in after a search for holders that
// was in vain. A search looks at every connection and at every message that waits. A search with each
// message would take the hub's time from all.
const againShare = 8

// reclaim closes connections until the budget is at seven eighths of most, if it is above most. If
// closing all holders does not bring it below most, reclaim notes from where on it searches again.
func (h *held) reclaimBytes(most int64, everybody func(func(*Connection))) {
	if !h.exceedsBound(most) {
		return
	}
	h.closeHolders(most-most/8, everybody)
	if left := h.stayingBytes(); left > most {
		h.vain.Store(left + most/againShare)
	}
}

// closeHolders closes connections until no more than target bytes stay.
func (h *held) closeHolders(target int64, everybody func(func(*Connection))) {
	var all []*Connection
	everybody(func(c *Connection) { all = append(all, c) }) // under a lock
	var shares fairshare.Shares[*Connection]
	for _, c := range all {
		shares.Add(c.asHolder())
	}
	for h.stayingBytes() > target {
		pays, ok := shares.Next()
		if !ok {
			return
		}
		if how := cause.Memory.CloseStatus(); pays.First {
			pays.Of.closeDetached(how) // unless its client is back: then it is about to read
		} else {
			pays.Of.Close(how)
		}
	}
}

// holder is the connection as a holder of the budgets. Detached connections go first among equals.
func (c *Connection) asHolder() fairshare.Holder[*Connection] {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.weighKeptLocked()
	return fairshare.Holder[*Connection]{
		Of: c, Namespace: c.state.Namespace, User: c.state.Payer(),
		Bytes:  int64(math.Ceil(k.share)), // a part of a byte is not nothing: thousands may hold one
		Shared: k.share*manyHold < float64(k.all) && float64(k.own) < k.share/2,
		First:  c.state.Phase == PhaseDetached,
	}
}

// keeps is how many bytes of the budgets are there for a connection.
type keeps struct {
	own   int64   // what no other connection needs: the outbox's list, greeting and replies
	all   int64   // own, and each message that it holds, with all forms, whatever goes over this wire
	share float64 // own, and each message shared out among its holders; they add up to the message
}

func (c *Connection) weighKeptLocked() (k keeps) {
	k.own = c.ownWeightLocked()
	k.all, k.share = k.own, float64(k.own)
	for _, e := range c.state.Outbox.liveEntries() {
		kept := e.tally.kept.Load()
		k.all += kept
		k.share += float64(kept) / float64(e.tally.holderCount())
	}
	return k
}

// ownWeightLocked is what the connection takes in the budgets besides messages.
func (c *Connection) ownWeightLocked() int64 {
	return firstWeight(c.first) + listWeight(cap(c.state.Outbox.entries))
}

// listWeight is what the list of an outbox takes in the budgets.
func listWeight(capacity int) int64 {
	if capacity <= outboxKept {
		return 0
	}
	return int64(capacity) * int64(unsafe.Sizeof((*Envelope)(nil)))
}

// all calls yield for every connection.
func (h *Hub) eachConnection(yield func(*Connection)) {
	h.mu.RLock()
	all := make([]*namespace, 0, len(h.namespaces))
	for _, ns := range h.namespaces {
		all = append(all, ns)
	}
	h.mu.RUnlock()
	for _, ns := range all {
		ns.connections.eachValue(yield)
	}
}
