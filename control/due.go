package control

import (
	"time"

	"github.com/connhub/connhub/hub"
)

// This file is when the receipt of a routed send is due, for streams: they wait for many at once, in a list.

// asynchronous is a sending that can tell when Receipt would not wait.
type asynchronous interface {
	sending
	// dueAt is when the receipt is due anyway.
	dueAt() time.Time
	// then has done called when Receipt would not wait, instead of waiting for it: from then on Receipt never does. done
	// is called once at most, maybe at once, by a goroutine that may hold locks of the hub. stop calls it off.
	then(done func()) (stop func())
}

// isDue reports whether a receipt needs no waiting. What can't tell is waited for in a goroutine.
func isDue(s sending) bool {
	d, ok := s.(interface{ due() bool })
	return ok && d.due()
}

// due is true when no hub has anything to do any more.
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

var _ asynchronous = (*routedSending)(nil)

// dueAt implements asynchronous.
func (s *routedSending) dueAt() time.Time { return s.outgoing.until }

// then implements asynchronous: it waits for this hub's part and for that of the others.
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
