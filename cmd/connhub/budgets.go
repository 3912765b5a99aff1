package main

import (
	"errors"
	"fmt"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/node/limits"
)

// planBudgets adapts the budgets that no flag sets to those of flags. Without flags all budgets are
// shares of the memory limit.
func (s *settings) planBudgets(p *plan) error {
	if s.HeldBytes != nil && s.NamespaceHeldBytes == nil {
		p.Hub.NamespaceHeldBytes = hub.NamespaceShare(p.Hub.HeldBytes)
	}
	if s.InboundBytes == nil { // otherwise no message could be as large
		p.Edge.InboundBytes = max(p.Edge.InboundBytes, p.Edge.MaxMessage)
	}
	p.CallBytes = p.configs.Control.CallBytes
	return errors.Join(checkBudgets(p.Memory, p.Budgets()), s.checkHeapFloor(p))
}

// checkHeapFloor refuses a floor that leaves too little, or has no effect.
func (s *settings) checkHeapFloor(p *plan) error {
	switch {
	case s.HeapFloor == nil:
		return nil
	case limits.OperatorTunesHeap():
		return errors.New("--heap-floor has no effect beside GOGC in the environment")
	case p.Heap.FloorBytes > p.Memory.Limit/2:
		return fmt.Errorf("--heap-floor %v is above half of the memory limit of %s (%s)",
			*s.HeapFloor, limits.FormatMebibytes(p.Memory.Limit), p.Memory.Source)
	}
	return nil
}

// checkBudgets refuses budgets that together are above the limit.
func checkBudgets(m limits.Memory, b limits.Budgets) error {
	if m.Fits(b) {
		return nil
	}
	return fmt.Errorf("--held-bytes %v, --inbound-bytes %v, --call-bytes %v and --request-ids %d "+
		"of %d bytes each are %s together, above the memory limit of %s (%s)",
		byteSize(b.Held), byteSize(b.Inbound), byteSize(b.Calls),
		b.RequestIDs, limits.RequestIDBytes, limits.FormatMebibytes(b.TotalBytes()),
		limits.FormatMebibytes(m.Limit), m.Source)
}
