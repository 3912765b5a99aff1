package control

import (
	"time"

	"github.com/connhub/connhub/hub"
)

// This file is when the receipt of a routed send is due, for streams: they wait for many at once, in a list.

// due implements sending: no hub has anything to do any more.
func (s *routedSending) due() bool {
	switch wait := s.outgoing.send.Wait; {
	case wait == hub.WaitNone:
		return true
	case s.others != nil:
		return false
	default:
		return wait == hub.WaitQueued || s.delivery == nil || s.delivery.Reached()
	}
}

var _ sending = (*routedSending)(nil)

// dueAt implements sending.
func (s *routedSending) dueAt() time.Time { return s.outgoing.until }

// then implements sending: it waits for this hub's part and for that of the others.
func (s *routedSending) then(done func()) (stop func()) {
	s.asked = true
	here := s.delivery != nil && s.outgoing.send.Wait > hub.WaitQueued
	switch {
	case !here:
		s.others.Then(done)
		return func() {}
	case s.others == nil:
		return s.delivery.Then(done)
	}
	s.parts.Store(2)
	part := func() {
		if s.parts.Add(-1) == 0 {
			done()
		}
	}
	s.others.Then(part)
	return s.delivery.Then(part)
}
