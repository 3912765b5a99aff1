package form

import (
	"slices"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// FillReceipt translates the receipt of a hub into an empty receipt.
func FillReceipt(receipt *controlv1.Receipt, r *hub.Receipt) {
	receipt.MessageId = r.MessageID
	receipt.Matched = ClampCount(r.Matched)
	receipt.Pending = ClampCount(r.Pending)
	receipt.Queued = ClampCount(r.Queued)
	receipt.QueuedDetached = ClampCount(r.QueuedDetached)
	receipt.Written = ClampCount(r.Written)
	receipt.Acked = ClampCount(r.Acked)
	receipt.NotAckable = ClampCount(r.NotAckable)
	receipt.InTransfer = ClampCount(r.InTransfer)
	receipt.Duplicate = r.Duplicate
	for _, d := range r.Dropped {
		receipt.Dropped = append(receipt.Dropped, &controlv1.Dropped{
			Reason: dropReasons[d.Reason], Count: ClampCount(d.Count),
		})
	}
}

var dropReasons = map[cause.DropReason]controlv1.DropReason{
	cause.DropClosed:         controlv1.DropReason_DROP_REASON_CLOSED,
	cause.DropOverflowNewest: controlv1.DropReason_DROP_REASON_OVERFLOW_NEWEST,
	cause.DropOverflowOldest: controlv1.DropReason_DROP_REASON_OVERFLOW_OLDEST,
	cause.DropOverflowClose:  controlv1.DropReason_DROP_REASON_OVERFLOW_CLOSE,
	cause.DropConflated:      controlv1.DropReason_DROP_REASON_CONFLATED,
	cause.DropExpired:        controlv1.DropReason_DROP_REASON_EXPIRED,
}

// ReceiptSum is the receipt of a send: the sum of the receipts of the hubs. It belongs to a single
// goroutine.
type ReceiptSum struct {
	target  *hub.Target
	receipt *controlv1.Receipt
	detail  bool
	matched nameSet // with detail: names that matched on any hub
}

// NewReceiptSum returns the sum for a send with the receipt of this hub; local is nil if it has
// none. into is an empty receipt to use for the sum; nil: it is allocated.
func NewReceiptSum(send *hub.Send, local *hub.Receipt, into *controlv1.Receipt) ReceiptSum {
	rs := ReceiptSum{target: &send.Target, detail: send.Detail, receipt: into}
	if rs.receipt == nil {
		rs.receipt = &controlv1.Receipt{}
	}
	if local == nil {
		rs.receipt.MessageId = send.Message.ID
		return rs
	}
	FillReceipt(rs.receipt, local)
	if local.Unmatched != nil {
		rs.matched.mergeBits(MatchedNames(rs.target, local.Unmatched))
	}
	return rs
}

// AddResult adds the receipt of a peer.
func (rs *ReceiptSum) AddResult(f *peerv1.ForwardResult) {
	rs.addReceipt(f.GetSend().GetReceipt())
	rs.matched.mergeBits(f.GetSend().GetMatchedNames())
}

func (rs *ReceiptSum) addReceipt(r *controlv1.Receipt) {
	sum := rs.receipt
	if r.GetDuplicate() {
		sum.Duplicate, sum.MessageId = true, r.GetMessageId()
	}
	for _, s := range []struct {
		sum  *int32
		part int32
	}{
		{&sum.Matched, r.GetMatched()},
		{&sum.Pending, r.GetPending()},
		{&sum.Queued, r.GetQueued()},
		{&sum.QueuedDetached, r.GetQueuedDetached()},
		{&sum.Written, r.GetWritten()},
		{&sum.Acked, r.GetAcked()},
		{&sum.NotAckable, r.GetNotAckable()},
		{&sum.InTransfer, r.GetInTransfer()},
	} {
		*s.sum = AddCounts(*s.sum, s.part)
	}
	for _, d := range r.GetDropped() {
		rs.addDropped(d)
	}
}

// AddPending adds connections whose state is not known.
func (rs *ReceiptSum) AddPending(n int) {
	count := ClampCount(n)
	rs.receipt.Matched = AddCounts(rs.receipt.GetMatched(), count)
	rs.receipt.Pending = AddCounts(rs.receipt.GetPending(), count)
}

// AddSend adds a part of a hub's result to the sum, which it changes. Both are of the same send.
func AddSend(sum, part *peerv1.SendResult) {
	rs := ReceiptSum{receipt: sum.GetReceipt(), matched: sum.GetMatchedNames()}
	if rs.receipt == nil {
		rs.receipt = &controlv1.Receipt{}
	}
	rs.addReceipt(part.GetReceipt())
	rs.matched.mergeBits(part.GetMatchedNames())
	sum.Receipt, sum.MatchedNames = rs.receipt, rs.matched
}

// AddInTransfer adds n connections that are on their way between hubs to the receipt.
func AddInTransfer(sum *peerv1.SendResult, n int) {
	count := ClampCount(n)
	AddSend(sum, &peerv1.SendResult{Receipt: &controlv1.Receipt{Matched: count, InTransfer: count}})
}

// AddMatchedNames adds the names of a target that a connection has, as matches reports for a target
// of a single name.
func AddMatchedNames(sum *peerv1.SendResult, t *hub.Target, matches func(*hub.Target) bool) {
	names, at := nameSet(sum.GetMatchedNames()), 0
	add := func(one *hub.Target) {
		if matches(one) {
			names.setBit(at)
		}
		at++
	}
	for _, id := range t.Connections {
		add(&hub.Target{Connections: []string{id}})
	}
	for _, user := range t.Users {
		add(&hub.Target{Users: []string{user}})
	}
	for _, group := range t.Groups {
		add(&hub.Target{Groups: []string{group}})
	}
	sum.MatchedNames = names
}

// addDropped keeps the reasons in their order.
func (rs *ReceiptSum) addDropped(d *controlv1.Dropped) {
	for i, known := range rs.receipt.GetDropped() {
		switch {
		case known.GetReason() == d.GetReason():
			known.Count = AddCounts(known.Count, d.GetCount())
			return
		case known.GetReason() > d.GetReason():
			rs.receipt.Dropped = slices.Insert(rs.receipt.Dropped, i, d)
			return
		}
	}
	rs.receipt.Dropped = append(rs.receipt.Dropped, d)
}

// Total returns the sum. For a duplicate the hubs know no longer which names matched.
func (rs *ReceiptSum) Total() *controlv1.Receipt {
	if rs.detail && !rs.receipt.GetDuplicate() {
		rs.receipt.Unmatched = rs.matched.unmatchedNames(rs.target)
	}
	return rs.receipt
}

// nameSet is the set of the names of a target that matched. Bit i, the least significant of a byte
// first, is for the i-th name in the order connections, users, groups (forward.proto, SendResult).
// Zero bytes at the end may be missing.
type nameSet []byte

func (s *nameSet) setBit(i int) {
	for len(*s) <= i/8 {
		*s = append(*s, 0)
	}
	(*s)[i/8] |= 1 << (i % 8)
}

func (s nameSet) hasBit(i int) bool { return i/8 < len(s) && s[i/8]&(1<<(i%8)) != 0 }

func (s *nameSet) mergeBits(other nameSet) {
	for len(*s) < len(other) {
		*s = append(*s, 0)
	}
	for i, b := range other {
		(*s)[i] |= b
	}
}

// MatchedNames returns the complement of the unmatched names, which stand in the order of the
// target, as SendResult has it.
func MatchedNames(t *hub.Target, un *hub.Unmatched) []byte {
	var s nameSet
	at := 0
	for _, list := range []struct{ all, unmatched []string }{
		{t.Connections, un.Connections}, {t.Users, un.Users}, {t.Groups, un.Groups},
	} {
		rest := list.unmatched
		for _, name := range list.all {
			if len(rest) > 0 && rest[0] == name {
				rest = rest[1:]
			} else {
				s.setBit(at)
			}
			at++
		}
	}
	return s
}

// unmatchedNames is the inverse of matchedNames.
func (s nameSet) unmatchedNames(t *hub.Target) *controlv1.Unmatched {
	at := 0
	pick := func(names []string) (missing []string) {
		for _, name := range names {
			if !s.hasBit(at) {
				missing = append(missing, name)
			}
			at++
		}
		return missing
	}
	return &controlv1.Unmatched{
		Connections: pick(t.Connections), Users: pick(t.Users), Groups: pick(t.Groups),
	}
}
