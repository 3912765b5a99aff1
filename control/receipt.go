package control

import (
	"slices"

	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// fillReceipt translates the receipt of a hub into an empty receipt.
func fillReceipt(receipt *controlv1.Receipt, r *hub.Receipt) {
	receipt.MessageId = r.MessageID
	receipt.Matched = form.ClampCount(r.Matched)
	receipt.Pending = form.ClampCount(r.Pending)
	receipt.Queued = form.ClampCount(r.Queued)
	receipt.QueuedDetached = form.ClampCount(r.QueuedDetached)
	receipt.Written = form.ClampCount(r.Written)
	receipt.Acked = form.ClampCount(r.Acked)
	receipt.NotAckable = form.ClampCount(r.NotAckable)
	receipt.Duplicate = r.Duplicate
	for _, d := range r.Dropped {
		receipt.Dropped = append(receipt.Dropped, &controlv1.Dropped{
			Reason: dropReasons[d.Reason], Count: form.ClampCount(d.Count),
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

// receiptSum is the receipt of a send: the sum of the receipts of the hubs.
type receiptSum struct {
	target  *hub.Target
	receipt *controlv1.Receipt
	detail  bool
	matched nameSet // with detail: names that matched on any hub
}

// newReceiptSum returns the sum with the receipt of this hub; local is nil if it has none.
func newReceiptSum(checked *checkedSend, local *hub.Receipt) receiptSum {
	send := &checked.send
	rs := receiptSum{target: &send.Target, detail: send.Detail, receipt: checked.sending.into}
	if rs.receipt == nil {
		rs.receipt = &controlv1.Receipt{}
	}
	if local == nil {
		rs.receipt.MessageId = send.Message.ID
		return rs
	}
	fillReceipt(rs.receipt, local)
	if local.Unmatched != nil {
		rs.matched.mergeBits(matchedNames(rs.target, local.Unmatched))
	}
	return rs
}

// addResult adds the receipt of a peer.
func (rs *receiptSum) addResult(f *peerv1.ForwardResult) {
	rs.addReceipt(f.GetSend().GetReceipt())
	rs.matched.mergeBits(f.GetSend().GetMatchedNames())
}

func (rs *receiptSum) addReceipt(r *controlv1.Receipt) {
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
	} {
		*s.sum = form.AddCounts(*s.sum, s.part)
	}
	for _, d := range r.GetDropped() {
		rs.addDropped(d)
	}
}

// addDropped keeps the reasons in their order.
func (rs *receiptSum) addDropped(d *controlv1.Dropped) {
	for i, known := range rs.receipt.GetDropped() {
		switch {
		case known.GetReason() == d.GetReason():
			known.Count = form.AddCounts(known.Count, d.GetCount())
			return
		case known.GetReason() > d.GetReason():
			rs.receipt.Dropped = slices.Insert(rs.receipt.Dropped, i, d)
			return
		}
	}
	rs.receipt.Dropped = append(rs.receipt.Dropped, d)
}

// totalReceipt returns the sum. For a duplicate the hubs know no longer which names matched.
func (rs *receiptSum) totalReceipt() *controlv1.Receipt {
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

// matchedNames returns the complement of the unmatched names, which stand in the order of the
// target.
func matchedNames(t *hub.Target, un *hub.Unmatched) nameSet {
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
