package control

import (
	"time"

	"github.com/connhub/connhub/hub"
)

// This file tells when the receipt of a send is due. A stream waits for many receipts in a list.

// isDue reports whether Receipt would not wait.
func (s *activeSend) isDue() bool {
	switch wait := s.checked.send.Wait; {
	case wait == hub.WaitNone:
		return true
	case s.others != nil:
		return false
	default:
		return wait == hub.WaitQueued || s.delivery == nil || s.delivery.Reached()
	}
}

// dueAt returns the time when the receipt is due in any case: checkedSend.until.
func (s *activeSend) dueAt() time.Time { return s.checked.until }

// callWhenDue calls done when Receipt would not wait. The caller sets asked before: from then on
// Receipt never waits, also before callWhenDue. done is called at most once, perhaps at once, by a
// goroutine that may hold locks of the hub. stop calls it off.
func (s *activeSend) callWhenDue(done func()) (stop func()) {
	switch {
	case s.others == nil:
		return s.delivery.Then(done)
	case s.delivery == nil || s.delivery.Reached(): // as a rule of a send to clients of peers
		s.others.Then(done)
		return func() {}
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
