package edge

import (
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
)

// budget bounds the bytes of all messages that clients have begun and not ended.
//
// Problem: a client can begin a large message and keep back its last byte. The budget fills, and
// the next client that asks for bytes is not the client that filled it.
//
// Rule: the largest begun message of the largest user of the largest namespace pays
// (fairshare.Shares). Its link is ended (cause.Memory), and its bytes count no more from then on.
// The client that asks is refused if it is the largest itself.
//
// Invariants:
//   - used is the sum of all claims' bytes, leaving the sum of the revoked claims' bytes. used -
//     leaving is at most most.
//   - A claim is in claims while it has bytes.
//   - Only a claim whose message has not ended is revoked: the bytes of an ended message are about
//     to be free.
//   - A revoked claim gets no more bytes, and its reader is woken.
type budget struct {
	most int64 // static

	mu            sync.Mutex
	used, leaving int64
	claims        map[*claim]struct{}
}

// claim is a link's share of a budget.
type claim struct {
	holder  claimHolder // static
	revoked atomic.Bool // set under budget.mu

	bytes     int64 // guarded by budget.mu
	inMessage bool  // a message that has not ended needs the bytes; guarded by budget.mu
}

// claimHolder is what a budget needs of a link.
type claimHolder interface {
	// clientIdentity returns the client, for the fair shares.
	clientIdentity() hub.Identity
	// wakeReader wakes the reader, which ends the link. The budget's lock is held.
	wakeReader()
}

// budgetSlack is the share of the budget, 1/64, that a full budget sets free beyond the asked
// bytes. So not each growing message looks through all claims. Of 64 MiB it is a message of the
// largest size.
const budgetSlack = 64

// reserveBytes counts n more bytes for a message of c that has not ended. It returns false if c has
// to pay: then the link of c ends.
func (b *budget) reserveBytes(c *claim, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.revoked.Load() || b.used-b.leaving+n > b.most && !b.makeRoomLocked(c, n) {
		return false
	}
	b.used += n
	c.bytes += n
	c.inMessage = true
	if b.claims == nil {
		b.claims = make(map[*claim]struct{})
	}
	b.claims[c] = struct{}{}
	return true
}

// makeRoomLocked revokes claims by fair shares until n more bytes and the slack fit. It returns
// false if the turn comes to c before n bytes fit.
func (b *budget) makeRoomLocked(c *claim, n int64) bool {
	var shares fairshare.Shares[*claim]
	add := func(o *claim, bytes int64) {
		who := o.holder.clientIdentity()
		shares.Add(fairshare.Holder[*claim]{
			Of: o, Namespace: who.Namespace, User: who.Payer(), Bytes: bytes,
		})
	}
	add(c, c.bytes+n)
	for o := range b.claims {
		if o != c && o.inMessage && !o.revoked.Load() {
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
		h.Of.holder.wakeReader()
	}
	return b.used-b.leaving+n <= b.most
}

// releaseBytes gives n bytes of c back.
func (b *budget) releaseBytes(c *claim, n int64) {
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

// endMessage notes that the message of c has ended, and reports whether c is still valid.
func (b *budget) endMessage(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.inMessage = false
	return !c.revoked.Load()
}

func (l *link) clientIdentity() hub.Identity { return l.connection.Identity() }
func (l *link) wakeReader()                  { l.socket.StopReading() }

// reserveBudget takes n bytes of the server's budget for the message that is being read. It returns
// false if the budget has none for this link.
func (l *link) reserveBudget(n int64) bool {
	if l.claim == nil {
		l.claim = &claim{holder: l}
	}
	return l.server.inbound.reserveBytes(l.claim, n)
}

// releaseBudget gives back n bytes that reserveBudget took. 0 does nothing.
func (l *link) releaseBudget(n int64) {
	if n > 0 {
		l.server.inbound.releaseBytes(l.claim, n)
	}
}

// isRevoked reports whether the claim's link must end for the budget. A nil claim has no bytes.
func (c *claim) isRevoked() bool { return c != nil && c.revoked.Load() }

// outOfBudget returns the Violation of a link for which the budget has no room.
func outOfBudget() error { return &Violation{cause.Memory.CloseStatus()} }
