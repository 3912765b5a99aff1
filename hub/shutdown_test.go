package hub

import (
	"slices"
	"testing"
)

func TestADrainTakesResumableConnectionsLast(t *testing.T) {
	h := newHub(t)
	for range 20 {
		connectAs(t, h, numbered{}, "")
		connect(t, h, "")
	}
	plain, resumable := h.DrainOrder()
	if len(plain) != 20 || len(resumable) != 20 {
		t.Fatalf("%d plain and %d resumable connections, want 20 of each", len(plain),
			len(resumable))
	}
	isNumbered := func(c *Connection) bool { return c.numbering != nil }
	if slices.ContainsFunc(plain, isNumbered) {
		t.Error("a resumable connection is among the plain ones")
	}
	for _, c := range resumable {
		if !isNumbered(c) {
			t.Error("a plain connection is among the resumable ones")
		}
	}
}
