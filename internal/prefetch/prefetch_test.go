package prefetch

import (
	"testing"
	"unsafe"
)

func TestPrefetchTakesAnyAddress(t *testing.T) {
	here := unsafe.Pointer(t)
	for _, p := range []unsafe.Pointer{nil, here, unsafe.Add(here, 1<<40)} {
		Line(p)
		LineBehind(unsafe.Pointer(&p))
		if testing.AllocsPerRun(10, func() { Line(p) }) != 0 {
			t.Error("a hint allocates")
		}
	}
}
