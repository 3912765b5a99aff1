package hub

import (
	"testing"
	"unsafe"
)

// The fields that a delivery reads lie in the bytes that are fetched for it. Each field that moves
// out of them costs a line from memory.
func TestHotFieldsOfAConnectionLieTogether(t *testing.T) {
	var c Connection
	for name, end := range map[string]uintptr{
		"numbering": unsafe.Offsetof(c.numbering) + unsafe.Sizeof(c.numbering),
		"first":     unsafe.Offsetof(c.first) + unsafe.Sizeof(c.first),
		"Phase": unsafe.Offsetof(c.state) +
			unsafe.Offsetof(c.state.Phase) + unsafe.Sizeof(c.state.Phase),
		"Outbox": unsafe.Offsetof(c.state) +
			unsafe.Offsetof(c.state.Outbox) + unsafe.Sizeof(c.state.Outbox),
	} {
		if end > hotBytes {
			t.Errorf("%s ends at %d, behind %d", name, end, hotBytes)
		}
	}
	if at := unsafe.Offsetof(c.state.Outbox.entries); at != 0 {
		t.Errorf("the outbox's entries, to which step 1 goes, are at %d of it", at)
	}
}
