package main

import (
	"fmt"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/limits"
)

// planBudgets sets the budgets to the values of flags, or else to a share of the memory limit. It
// writes them back to the settings too, for the log of the effective configuration.
func (s *settings) planBudgets(p *node.Config) error {
	b := p.Memory.DefaultBudgets()
	if s.HeldBytes != nil {
		b.Held = int64(*s.HeldBytes)
		b.NamespaceHeld = hub.NamespaceShare(b.Held)
	}
	if s.NamespaceHeldBytes != nil {
		b.NamespaceHeld = int64(*s.NamespaceHeldBytes)
	}
	b.Inbound = max(b.Inbound, int64(s.MaxMessage)) // otherwise no message could be as large
	if s.InboundBytes != nil {
		b.Inbound = int64(*s.InboundBytes)
	}
	if s.RequestIDs != nil {
		b.RequestIDs = *s.RequestIDs
	}
	if s.CallBytes != nil {
		b.Calls = int64(*s.CallBytes)
	}
	s.CallBytes = new(byteSize(b.Calls))
	s.HeldBytes, s.NamespaceHeldBytes = new(byteSize(b.Held)), new(byteSize(b.NamespaceHeld))
	s.InboundBytes, s.RequestIDs = new(byteSize(b.Inbound)), new(b.RequestIDs)
	p.SetBudgets(b)
	return checkBudgets(p.Memory, b)
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
