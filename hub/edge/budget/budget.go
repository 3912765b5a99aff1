// Package budget bounds the bytes of messages that clients have begun and not ended.
package budget

import (
	"sync"
	"sync/atomic"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/fairshare"
)

// Budget bounds the bytes of all messages that clients have begun and not ended. It is safe for
// concurrent use.
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
type Budget struct {
	most int64 // static

	mu            sync.Mutex
	used, leaving int64
	claims        map[*Claim]struct{}
}

// New returns a budget of most bytes.
func New(most int64) *Budget { return &Budget{most: most} }

// Claim is a link's share of a budget. It has no bytes at first.
type Claim struct {
	holder  Holder      // static
	revoked atomic.Bool // set under budget.mu

	bytes     int64 // guarded by budget.mu
	inMessage bool  // a message that has not ended needs the bytes; guarded by budget.mu
}

// Holder is a link that has a claim.
type Holder interface {
	// ClientIdentity returns the client, for the fair shares.
	ClientIdentity() hub.Identity
	// WakeReader wakes the reader, which ends the link. The budget's lock is held.
	WakeReader()
}

// NewClaim returns a claim of a link.
func NewClaim(h Holder) *Claim { return &Claim{holder: h} }

// budgetSlack is the share of the budget, 1/64, that a full budget sets free beyond the asked
// bytes. So not each growing message looks through all claims. Of 64 MiB it is a message of the
// largest size.
const budgetSlack = 64

// ReserveBytes counts n more bytes for a message of c that has not ended. It returns false if c has
// to pay: then the link of c ends.
func (b *Budget) ReserveBytes(c *Claim, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.revoked.Load() || b.used-b.leaving+n > b.most && !b.makeRoomLocked(c, n) {
		return false
	}
	b.used += n
	c.bytes += n
	c.inMessage = true
	if b.claims == nil {
		b.claims = make(map[*Claim]struct{})
	}
	b.claims[c] = struct{}{}
	return true
}

// makeRoomLocked revokes claims by fair shares until n more bytes and the slack fit. It returns
// false if the turn comes to c before n bytes fit.
func (b *Budget) makeRoomLocked(c *Claim, n int64) bool {
	var shares fairshare.Shares[*Claim]
	add := func(o *Claim, bytes int64) {
		who := o.holder.ClientIdentity()
		shares.Add(fairshare.Holder[*Claim]{
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
		h.Of.holder.WakeReader()
	}
	return b.used-b.leaving+n <= b.most
}

// ReleaseBytes gives n bytes of c back.
func (b *Budget) ReleaseBytes(c *Claim, n int64) {
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

// EndMessage notes that the message of c has ended, and reports whether c is still valid.
func (b *Budget) EndMessage(c *Claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.inMessage = false
	return !c.revoked.Load()
}

// IsRevoked reports whether the claim's link must end for the budget. A nil claim has no bytes.
func (c *Claim) IsRevoked() bool { return c != nil && c.revoked.Load() }
