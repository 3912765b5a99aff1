package tally

import (
	"fmt"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// Totals adds receipts up.
type Totals struct {
	Receipts int // that were added
	Matched  int // recipients in all
	Written  int // messages that were written to their client
	Partial  int // receipts with hubs that were not reached
	// Dropped counts the messages that were dropped, by reason.
	Dropped map[controlv1.DropReason]int
}

// NewTotals makes totals of no receipt.
func NewTotals() *Totals { return &Totals{Dropped: map[controlv1.DropReason]int{}} }

// Add counts a receipt.
func (s *Totals) Add(r *controlv1.Receipt) {
	s.Receipts++
	s.Matched += int(r.GetMatched())
	s.Written += int(r.GetWritten())
	s.Partial += min(len(r.GetUnreachableHubs()), 1)
	for _, d := range r.GetDropped() {
		s.Dropped[d.GetReason()] += int(d.GetCount())
	}
}

// Join adds the totals of o.
func (s *Totals) Join(o *Totals) {
	s.Receipts += o.Receipts
	s.Matched += o.Matched
	s.Written += o.Written
	s.Partial += o.Partial
	for reason, n := range o.Dropped {
		s.Dropped[reason] += n
	}
}

// CheckBalance holds the identity of receipt.proto.
func CheckBalance(r *controlv1.Receipt) error {
	sum := r.GetPending() + r.GetQueued() + r.GetQueuedDetached() + r.GetWritten() + r.GetAcked() +
		r.GetInTransfer()
	for _, d := range r.GetDropped() {
		sum += d.GetCount()
	}
	if sum != r.GetMatched() {
		return fmt.Errorf("receipt does not add up: %v", r)
	}
	return nil
}
