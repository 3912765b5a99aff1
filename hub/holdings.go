package hub

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
)

// holdings bounds the bytes of all messages in outboxes and tails, and of the replies that wait for
// links.
//
// Problem: each outbox is bounded, but thousands of slow or detached clients together can hold more
// memory than the hub has. They share it: a message to ten thousand takes its bytes once. The bound
// must not cost deliveries that leave nothing behind.
//
// Invariants:
//   - A message counts once its push, and the flush behind it, have left it in an outbox, until no
//     connection holds it. Its payload and each of its encoded forms count once, in the hub's
//     budget and in its namespace's.
//   - An outbox whose list of messages has grown counts with that list, as its connection's own. A
//     list of eight does not count: a client that reads needs no more, and does without the
//     counters.
//   - Greeting and replies count while they wait for the link, above the size that a client that
//     reads stays below.
//   - The goroutine that takes a budget over its bound brings it back to seven eighths. It closes
//     connections (cause.Memory) by fair shares: the largest connection of the largest user of the
//     largest namespace, again and again (fairshare). Of two that hold the same, a detached
//     connection goes before an attached one. A connection whose messages many connections share
//     comes late: closing it frees nothing.
//   - A closed connection drops the messages that it has written. Messages that its link has taken
//     and not yet written count until the link has ended, but no open connection pays for them.
//     Closed connections hold an eighth of the hub's budget at most. Above that the links of those
//     that hold bytes are cut without a goodbye.
//
// Outline: the tally of a message knows when no connection holds it (tally.releaseBudget).
// reclaimBudgets picks connections to close. Only one goroutine runs it at a time. It looks at
// every connection, so it must be rare: an eighth of the budget must fill up between two runs.
type holdings struct {
	hub        *Hub // static
	total      held
	reclaiming sync.Mutex
}

// held counts the bytes in a budget.
type held struct {
	// bytes are all in the budget. leaving are those of closed connections whose links have yet to
	// end. vain is set if the last search for holders was in vain: no search starts while
	// stayingBytes is at most vain. 0: it was not in vain.
	bytes, leaving, vain atomic.Int64
}

// stayingBytes returns the bytes that open connections hold. A message that they share with closed
// connections is theirs in part.
func (h *held) stayingBytes() int64 { return h.bytes.Load() - h.leaving.Load() }

// countLeaving counts bytes of a connection that is closed. A negative count gives them back when
// its link has ended.
func (ns *namespace) countLeaving(bytes int64) {
	if bytes != 0 {
		ns.held.leaving.Add(bytes)
		ns.hub.holdings.total.leaving.Add(bytes)
	}
}

// countMessage counts the bytes that a message holds, unless no connection holds it any more.
func (m *holdings) countMessage(ns *namespace, t *tally, bytes int64) {
	if t.hasReached(WaitAcked) {
		return
	}
	ns.countHeld(bytes)
	t.keeper = ns
	t.kept.Store(bytes)
	// The last connection may have let go of the message before it was counted.
	t.releaseBudget()
	m.enforceBounds(ns)
}

// enforceBounds closes connections if a budget is over its bound.
func (m *holdings) enforceBounds(ns *namespace) {
	// The second try is for a caller that found another goroutine in reclaimBudgets.
	for tries := 0; tries < 2 && m.exceedsBounds(ns); tries++ {
		m.reclaimBudgets(ns)
	}
}

// messageOverhead is about the memory that a message takes besides its text: its tally, its forms,
// its places in outboxes.
const messageOverhead = 512

// messageWeight returns the memory that a message takes, without its forms.
func messageWeight(m *Message) int64 {
	n := messageOverhead + len(m.Payload) + len(m.Event)
	for name, value := range m.Metadata {
		n += len(name) + len(value)
	}
	return int64(n)
}

// countHeld adds bytes that are held from now on to the budgets. A negative count gives bytes back.
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

// reserveBytes adds bytes if the budget stays at or below most.
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

// leavingShare is the part of HeldBytes, as a divisor, that closed connections may hold in addition
// until their links have ended.
const leavingShare = 8

// leavesTooMuch reports whether closed connections hold more than they may.
func (m *holdings) leavesTooMuch() bool {
	return m.total.leaving.Load() > m.hub.config.HeldBytes/leavingShare
}

func (m *holdings) exceedsBounds(ns *namespace) bool {
	c := &m.hub.config
	return m.total.exceedsBound(c.HeldBytes) || ns.held.exceedsBound(c.NamespaceHeldBytes)
}

// exceedsBound reports whether the budget is over its bound, and a search for holders may find
// some.
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

// reclaimBudgets picks connections to close until both budgets are well below their bounds. Only
// one goroutine runs it at a time; the rest go on at once.
func (m *holdings) reclaimBudgets(ns *namespace) {
	if !m.reclaiming.TryLock() {
		return
	}
	defer m.reclaiming.Unlock()
	c := &m.hub.config
	ns.held.reclaimBytes(c.NamespaceHeldBytes, ns.connections.eachValue)
	m.total.reclaimBytes(c.HeldBytes, m.hub.eachConnection)
}

// manyHold is the mean number of holders of a connection's messages from which on closing it counts
// as freeing nothing.
const manyHold = 16

// againShare is the part of a budget, as a divisor, that must come in after a search for holders
// that was in vain. A search looks at every connection and at every message that waits. A search
// with each message would take the hub's time from all.
const againShare = 8

// reclaimBytes closes connections until the budget is at seven eighths of most, if it is above
// most. If closing all holders does not bring it below most, reclaimBytes notes the level at which
// it searches again.
func (h *held) reclaimBytes(most int64, everybody func(func(*Connection))) {
	if !h.exceedsBound(most) {
		return
	}
	h.closeHolders(most-most/8, everybody)
	if left := h.stayingBytes(); left > most {
		h.vain.Store(left + most/againShare)
	}
}

// closeHolders closes connections until open connections hold no more than target bytes.
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
			// If its client is back, the connection stays: the client is about to read.
			pays.Of.closeDetached(how)
		} else {
			pays.Of.Close(how)
		}
	}
}

// asHolder returns the connection as a holder of the budgets. Detached connections go first among
// equals.
func (c *Connection) asHolder() fairshare.Holder[*Connection] {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.weighKeptLocked()
	return fairshare.Holder[*Connection]{
		Of: c, Namespace: c.state.Namespace, User: c.state.Payer(),
		// A part of a byte must not round down to nothing: thousands may hold one byte.
		Bytes:  int64(math.Ceil(k.share)),
		Shared: k.share*manyHold < float64(k.all) && float64(k.own) < k.share/2,
		First:  c.state.Phase == PhaseDetached,
	}
}

// keeps is how many bytes of the budgets a connection is responsible for.
type keeps struct {
	// own is needed by no second connection: the outbox's list, greeting and replies.
	own int64
	// all is own, and each message that it holds with all forms, also those of different protocols.
	all int64
	// share is own, and each message divided by its holders. The shares of a message add up to it.
	share float64
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

// ownWeightLocked returns the bytes that the connection takes in the budgets besides messages.
func (c *Connection) ownWeightLocked() int64 {
	return firstWeight(c.first) + listWeight(cap(c.state.Outbox.entries))
}

// listWeight returns the bytes that the list of an outbox takes in the budgets.
func listWeight(capacity int) int64 {
	if capacity <= outboxKept {
		return 0
	}
	return int64(capacity) * int64(unsafe.Sizeof((*Envelope)(nil)))
}

// eachConnection calls yield for every connection.
func (h *Hub) eachConnection(yield func(*Connection)) {
	for _, ns := range h.listNamespaces() {
		ns.connections.eachValue(yield)
	}
}
