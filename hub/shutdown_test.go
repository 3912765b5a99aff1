package hub

import "testing"

func TestADrainTakesResumableConnectionsLast(t *testing.T) {
	h := newHub(t)
	for range 20 {
		connectAs(t, h, numbered{}, "")
		connect(t, h, "")
	}
	order := h.DrainOrder()
	if len(order) != 40 {
		t.Fatalf("%d connections, want all 40", len(order))
	}
	for i, c := range order {
		if resumable := c.numbering != nil; resumable != (i >= 20) {
			t.Errorf("place %d: resumable %v", i, resumable)
		}
	}
}
