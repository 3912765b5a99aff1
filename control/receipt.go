package control

import (
	"math"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// newReceipt translates a receipt.
func newReceipt(r *hub.Receipt) *controlv1.Receipt {
	receipt := &controlv1.Receipt{
		MessageId:      r.MessageID,
		Matched:        count(r.Matched),
		Pending:        count(r.Pending),
		Queued:         count(r.Queued),
		QueuedDetached: count(r.QueuedDetached),
		Written:        count(r.Written),
		Acked:          count(r.Acked),
		NotAckable:     count(r.NotAckable),
		Duplicate:      r.Duplicate,
	}
	for _, d := range r.Dropped {
		receipt.Dropped = append(receipt.Dropped, &controlv1.Dropped{Reason: dropReasons[d.Reason], Count: count(d.Count)})
	}
	if r.Unmatched != nil {
		receipt.Unmatched = &controlv1.Unmatched{
			Connections: r.Unmatched.Connections,
			Users:       r.Unmatched.Users,
			Groups:      r.Unmatched.Groups,
		}
	}
	return receipt
}

var dropReasons = map[hub.DropReason]controlv1.DropReason{
	hub.DropClosed:         controlv1.DropReason_DROP_REASON_CLOSED,
	hub.DropOverflowNewest: controlv1.DropReason_DROP_REASON_OVERFLOW_NEWEST,
	hub.DropOverflowOldest: controlv1.DropReason_DROP_REASON_OVERFLOW_OLDEST,
	hub.DropOverflowClose:  controlv1.DropReason_DROP_REASON_OVERFLOW_CLOSE,
	hub.DropConflated:      controlv1.DropReason_DROP_REASON_CONFLATED,
	hub.DropExpired:        controlv1.DropReason_DROP_REASON_EXPIRED,
}

// count fits a number of connections or messages into the API's int32.
func count(n int) int32 { return int32(min(n, math.MaxInt32)) }
