package hub

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/overflow"
)

// Each link writes once for all that a burst has for it, in the order of the sends, and nothing
// before.
func TestBurstIsWrittenAtOnce(t *testing.T) {
	h := newHub(t)
	ann := connect(t, h, "ann", "blue")
	bob := connect(t, h, "bob", "blue", "red")
	var burst Burst
	var deliveries []*Delivery
	for i, group := range []string{"blue", "red", "blue", "red"} {
		s := toGroup(group, fmt.Sprint(i))
		s.Burst = &burst
		deliveries = append(deliveries, send(t, h, s))
	}
	if n := len(ann.link.frames()) + len(bob.link.frames()); n != 0 {
		t.Errorf("%d frames before Flush", n)
	}
	if len(burst.links) != 2 {
		t.Errorf("%d links to flush, want each once", len(burst.links))
	}
	burst.Flush()
	if diff := cmp.Diff(
		[]string{"gblue:0", "gred:1", "gblue:2", "gred:3"}, bob.link.frames(),
	); diff != "" {
		t.Errorf("bob (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gblue:0", "gblue:2"}, ann.link.frames()); diff != "" {
		t.Errorf("ann (-want +got):\n%s", diff)
	}
	for i, d := range deliveries {
		if r := d.Receipt(); r.Written != r.Matched || sum(t, r) != 0 {
			t.Errorf("send %d: %+v", i, r)
		}
	}
	burst.Flush()
	if len(burst.links) != 0 {
		t.Error("a burst is empty after Flush")
	}
}

// A burst that is longer than an outbox loses nothing: a client that reads is no slow client.
func TestBurstBeyondAnOutboxDropsNothing(t *testing.T) {
	for policy := overflow.CloseSlow; policy <= overflow.DropNewest; policy++ {
		h := newHub(t, func(c *Config) { c.Outbox.Messages = 3 })
		ann := connect(t, h, "ann")
		var burst Burst
		for i := range 20 {
			send(t, h, &Send{
				Message: text(fmt.Sprint(i)),
				Target:  Target{Users: []string{"ann"}}, Policy: policy, Burst: &burst,
			})
		}
		burst.Flush()
		if n := len(ann.link.frames()); n != 20 {
			t.Errorf("policy %v: %d frames of 20", policy, n)
		}
	}
}

// Messages that were pushed before a protocol panicked are written all the same. The goroutine that
// pushes next relies on it.
func TestPanicOfAProtocolLeavesNothingUnwritten(t *testing.T) {
	h := newHub(t)
	ann := connect(t, h, "ann")
	connectAs(t, h, panicking{}, "ann")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the protocol did not panic")
			}
		}()
		_, _ = h.Deliver(
			t.Context(), &Send{Message: text("hi"), Target: Target{Users: []string{"ann"}}},
		)
	}()
	if diff := cmp.Diff([]string{"u:hi"}, ann.link.frames()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The sends of two bursts are written in their order, each link once, and both bursts are empty
// then.
func TestBurstsAreAppended(t *testing.T) {
	h := newHub(t)
	ann := connect(t, h, "ann", "blue")
	bob := connect(t, h, "bob", "red")
	var all, next Burst
	for i, group := range []string{"blue", "red", "blue"} {
		s := toGroup(group, fmt.Sprint(i))
		s.Burst = &next
		send(t, h, s)
		all.Append(&next)
		if next.Writes() != 0 || len(next.pushed) != 0 {
			t.Fatalf("%d writes remain", next.Writes())
		}
	}
	if n := all.Writes(); n != 2 || len(all.pushed) != 3 {
		t.Errorf("%d writes of %d messages", n, len(all.pushed))
	}
	all.Flush()
	if diff := cmp.Diff([]string{"gblue:0", "gblue:2"}, ann.link.frames()); diff != "" {
		t.Errorf("ann (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gred:1"}, bob.link.frames()); diff != "" {
		t.Errorf("bob (-want +got):\n%s", diff)
	}
	if all.Writes() != 0 || len(all.pushed) != 0 {
		t.Error("a burst is not empty after Flush")
	}
}
