package control

import "testing"

func TestALeavingServerIsQuietWhenTheLastCallHasEnded(t *testing.T) {
	f := newInFlight()
	first, second := f.begin(nil), f.begin(nil)
	first()
	f.leave()
	if isClosed(f.quiet) {
		t.Error("quiet with a call in flight")
	}
	second()
	if !isClosed(f.quiet) {
		t.Error("not quiet without a call")
	}
	f.begin(nil)() // one that came while the listeners closed
	idle := newInFlight()
	idle.begin(nil)()
	if isClosed(idle.quiet) {
		t.Error("quiet before it leaves")
	}
	idle.leave()
	if !isClosed(idle.quiet) {
		t.Error("not quiet, with nothing in flight")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
