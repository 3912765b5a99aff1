package move

import (
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
)

// settle lets all messages arrive.
func (w *world) settle() {
	for all := w.waiting(); len(all) > 0; all = w.waiting() {
		w.deliver(all[0])
	}
}

// TestAConnectionRestsBetweenTwoTakes: a client that goes from hub to hub moves it once a second.
// Its last hub waits meanwhile. A drain does not.
func TestAConnectionRestsBetweenTwoTakes(t *testing.T) {
	w := newWorld(1, "A", "B", "X")
	w.fail = t.Errorf
	w.joinAll()
	w.connect(w.nodes[0], "c")
	hops, at := 0, hub.ID("A")
	const seconds = 10
	for w.now < seconds*time.Second {
		for _, n := range w.nodes {
			w.clients["c"].resume(n)
			w.settle()
			if now := w.owner("c").id; now != at {
				hops, at = hops+1, now
			}
		}
		w.tick(w.now + 50*time.Millisecond)
		w.settle()
	}
	if hops < seconds-1 || hops > seconds+1 {
		t.Errorf("%d moves in %d s", hops, seconds)
	}
	w.heal()
	n := w.owner("c")
	to := w.nodes[0]
	if n == to {
		to = w.nodes[1]
	}
	w.clients["c"].resume(to)
	w.heal()
	if w.owner("c") != to {
		t.Fatalf("%s has c, want %s", w.owner("c").id, to.id)
	}
	effects, begun := to.core.StartMove(w.now, "c", "X")
	to.perform(effects)
	w.settle()
	if !begun || w.owner("c").id != "X" {
		t.Errorf("a drain began: %t; %s has c", begun, w.owner("c").id)
	}
}
