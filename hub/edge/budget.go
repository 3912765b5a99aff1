package edge

import (
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
)

// budget bounds the bytes of all messages that clients have begun and not ended.
//
// Problem: a client can begin a large message and keep back its last byte. The client that asks for the next bytes finds the budget full,
// but it is not the one that filled it.
//
// Rule: the largest begun message of the largest user of the largest namespace pays (fairshare.Shares). Its
// link is ended (cause.Memory), and its bytes count no more from then on. The client that asks is
// refused if it is the largest itself.
//
// Invariants:
//   - used is the sum of all claims' bytes, leaving the sum of the revoked ones. used - leaving is at most most.
//   - A claim is in claims while it has bytes. Only a claim whose message has not ended is revoked: what has ended is about to be free.
//   - A revoked claim gets no more bytes, and its reader is woken.
type budget struct {
	most int64 // static

	mu            sync.Mutex
	used, leaving int64
	claims        map[*claim]struct{}
}

// claim is what one link holds of a budget.
type claim struct {
	link    *link       // static
	revoked atomic.Bool // set under budget.mu

	bytes int64 // guarded by budget.mu
	begun bool  // a message that has not ended needs the bytes; guarded by budget.mu
}

// budgetSlack is the part of a full budget that is set free beyond what is asked for, so that not each growing message looks through all of
// them: 1/64, at 64 MiB one message of the largest.
const budgetSlack = 64

// reserve counts n more bytes for a message of c that has not ended. It reports false when c has to pay: its link ends.
func (b *budget) reserve(c *claim, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.revoked.Load() || b.used-b.leaving+n > b.most && !b.makeRoomLocked(c, n) {
		return false
	}
	b.used += n
	c.bytes += n
	c.begun = true
	if b.claims == nil {
		b.claims = make(map[*claim]struct{})
	}
	b.claims[c] = struct{}{}
	return true
}

// makeRoomLocked revokes claims by fair shares until n more bytes fit, and some besides. It reports false when the turn comes to c
// first.
func (b *budget) makeRoomLocked(c *claim, n int64) bool {
	var shares fairshare.Shares[*claim]
	add := func(o *claim, bytes int64) {
		who := o.link.connection.Identity()
		shares.Add(fairshare.Holder[*claim]{Of: o, Namespace: who.Namespace, User: who.Payer(), Bytes: bytes})
	}
	add(c, c.bytes+n)
	for o := range b.claims {
		if o != c && o.begun && !o.revoked.Load() {
			add(o, o.bytes)
		}
	}
	for b.used-b.leaving+n > b.most-b.most/budgetSlack {
		h, ok := shares.Next()
		if !ok || h.Of == c {
			break
		}
		h.Of.revoked.Store(true)
		b.leaving += h.Of.bytes
		h.Of.link.socket.wake()
	}
	return b.used-b.leaving+n <= b.most
}

// release gives n bytes of c back.
func (b *budget) release(c *claim, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if c.revoked.Load() {
		b.leaving -= n
	}
	if c.bytes -= n; c.bytes == 0 {
		delete(b.claims, c)
	}
}

// end says that the message of c has ended, and reports whether c is still good.
func (b *budget) end(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.begun = false
	return !c.revoked.Load()
}

// reserve takes n bytes of the server's budget for the message that is being read. It reports false when the budget has none for this link.
func (l *link) reserve(n int64) bool {
	if l.claim == nil {
		l.claim = &claim{link: l}
	}
	return l.server.inbound.reserve(l.claim, n)
}

// release gives back what reserve took; 0: nothing.
func (l *link) release(n int64) {
	if n > 0 {
		l.server.inbound.release(l.claim, n)
	}
}

// isRevoked reports whether the link must end for what it holds of the budget.
func (l *link) isRevoked() bool { return l.claim != nil && l.claim.revoked.Load() }

// outOfBudget ends a link for which the budget has no room.
func outOfBudget() error { return &Violation{cause.Memory.CloseStatus()} }
