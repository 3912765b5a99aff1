package edge

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// step is an input of an ending, and the ending's answer.
type step struct {
	name string
	do   func(e *ending) any // returns the answer of the ending
	want any
	then endState
}

var (
	backend = cause.CloseStatus{Cause: cause.Backend, Code: 4000}
	lost    = cause.Lost.CloseStatus() // without a code
	client  = cause.CloseStatus{Cause: cause.Client, Code: 1000}
	wrong   = cause.Protocol.CloseStatus()
)

func closes(how cause.CloseStatus) func(*ending) any {
	return func(e *ending) any { return e.closeByHub(how) }
}

func drains(e *ending) any { return e.startDraining() }

func breaks(e *ending) any { e.breakOff(); return nil }

func ends(how cause.CloseStatus, there bool) func(*ending) any {
	return func(e *ending) any { return e.endReading(how, there) }
}

func parts(allWritten bool) func(*ending) any {
	return func(e *ending) any { return e.partSocket(allWritten) }
}

func TestALinkEndsInEachWay(t *testing.T) {
	for name, one := range map[string]struct {
		steps []step
		how   cause.CloseStatus
	}{
		"the hub closes, the client answers": {[]step{
			{"close", closes(backend), true, linkDeciding},
			{"close again", closes(wrong), false, linkDeciding},
			{"not yet", parts(true), partLater, linkDeciding},
			{"goodbye", drains, true, linkDraining},
			{"close too late", closes(wrong), false, linkDraining},
			{"reading goes on", parts(true), partLater, linkDraining},
			{"the client's close", ends(client, false), false, linkDraining},
			{"bytes wait", parts(false), partLater, linkDraining},
			{"all is written", parts(true), partHangUp, linkParted},
			{"once", parts(true), partLater, linkParted},
		}, backend},
		"the hub closes, the client vanishes before the goodbye": {[]step{
			{"close", closes(backend), true, linkDeciding},
			{"end of input", ends(lost, false), false, linkDraining},
			{"all is written", parts(true), partHangUp, linkParted},
		}, backend},
		"the hub closes, the client is at fault before the goodbye": {[]step{
			{"close", closes(backend), true, linkDeciding},
			{"fault", ends(wrong, true), true, linkDraining},
			{"all is written", parts(true), partLinger, linkParted},
		}, backend},
		"the hub closes without a code": {[]step{
			{"close", closes(lost), true, linkDraining},
			{"no goodbye", drains, false, linkDraining},
			{"end of input", ends(client, false), false, linkDraining},
			{"all is written", parts(true), partHangUp, linkParted},
		}, lost},
		"the client closes": {[]step{
			{"coder/websocket answers", drains, true, linkDraining},
			{"the client's close", ends(client, false), false, linkDraining},
			{"all is written", parts(true), partHangUp, linkParted},
		}, client},
		"coder/websocket finds a fault": {[]step{
			{"it writes a close", drains, true, linkDraining},
			{"the hub is too late", closes(backend), false, linkDraining},
			{"fault", ends(wrong, true), false, linkDraining},
			{"all is written", parts(true), partLinger, linkParted},
		}, wrong},
		"the protocol finds a fault": {[]step{
			{"fault", ends(wrong, true), true, linkDraining},
			{"one close frame", drains, false, linkDraining},
			{"bytes wait", parts(false), partLater, linkDraining},
			{"all is written", parts(true), partLinger, linkParted},
		}, wrong},
		"a write fails": {[]step{
			{"write", breaks, nil, linkDraining},
			{"reading goes on", parts(true), partLater, linkDraining},
			{"end of input", ends(lost, false), false, linkDraining},
			{"nothing waits", parts(true), partHangUp, linkParted},
		}, lost},
		"the client vanishes": {[]step{
			{"end of input", ends(lost, false), false, linkDraining},
			{"nothing waits", parts(true), partHangUp, linkParted},
			{"a late write fails", breaks, nil, linkParted},
			{"the hub is too late", closes(backend), false, linkParted},
		}, lost},
	} {
		t.Run(name, func(t *testing.T) {
			var e ending
			for _, s := range one.steps {
				if got := s.do(&e); got != s.want || e.state != s.then {
					t.Errorf("%s: answers %v in state %d, want %v in %d", s.name, got, e.state,
						s.want, s.then)
				}
			}
			if e.how == nil || *e.how != one.how {
				t.Errorf("ended with %+v, want %+v", e.how, one.how)
			}
		})
	}
}

// In whatever order the sides of a link end: no state comes back, the first reason stays, there is
// a single close frame, and the socket is parted once, after reading has ended and all is written.
func TestAnEndGoesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ending
		frames, ended, parted := 0, false, false
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			before := e
			all := []cause.CloseStatus{backend, lost, client, wrong}
			how := rapid.SampledFrom(all).Draw(t, "how")
			yes := rapid.Bool().Draw(t, "yes")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				if e.closeByHub(how) != (before.state == linkOpen) {
					t.Fatal("the hub closes a link that is ending, or can't close an open one")
				}
			case 1:
				if e.startDraining() {
					frames++
				}
			case 2:
				e.breakOff()
			case 3:
				if !ended && e.endReading(how, yes) { // reading ends once
					frames++
				}
				ended = true
			case 4:
				if p := e.partSocket(yes); p != partLater {
					if parted || !ended || !yes {
						t.Fatalf("parted again (%t), while reading (%t) or writing (%t)", parted,
							!ended, !yes)
					}
					parted = true
				}
			}
			if e.state < before.state || frames > 1 || before.how != nil && e.how != before.how {
				t.Fatalf("%d close frames; %+v became %+v", frames, before, e)
			}
			unknown := e.how == nil
			if e.owesGoodbye() && unknown || ended && unknown || e.broken && !e.isDraining() {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// A close that takes too long is put off once, for a client that shows life.
func TestACloseIsPutOffOnce(t *testing.T) {
	var e ending
	for i, want := range []bool{false, true, false} {
		if got := e.putOff(i > 0); got != want {
			t.Errorf("look %d: put off: %t", i, got)
		}
	}
}
