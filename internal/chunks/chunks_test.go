package chunks

import (
	"sync/atomic"
	"testing"
)

// TestEachItemIsHandledOnce, whatever the number of items.
func TestEachItemIsHandledOnce(t *testing.T) {
	for _, n := range []int{0, 1, inline, inline + 1, 10*chunk + 7, 5000} {
		handled := make([]atomic.Int32, n)
		items := make([]int, n)
		for i := range items {
			items[i] = i
		}
		HandleAll(items, func(some []int) {
			for _, i := range some {
				handled[i].Add(1)
			}
		})
		for i := range handled {
			if got := handled[i].Load(); got != 1 {
				t.Fatalf("%d items: item %d was handled %d times", n, i, got)
			}
		}
	}
}
