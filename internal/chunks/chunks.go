// Package chunks has many items handled on every core. It imports nothing of ours.
package chunks

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// inline is the number of items up to which the caller alone works: below it the hand-over to
	// workers costs more than it gains.
	inline = 256
	// chunk is how many items a worker takes at a time.
	chunk = 64
)

// HandleAll calls handle for all items, a chunk at a time, on every core when there are many. It
// returns when all are done. Between chunks it lets goroutines run that wait: when they push to the
// same connections, a single flush is enough for all that is queued there.
func HandleAll[T any](items []T, handle func([]T)) {
	if len(items) <= inline {
		handle(items)
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			end := int(next.Add(chunk))
			if end-chunk >= len(items) {
				return
			}
			handle(items[end-chunk : min(end, len(items))])
			runtime.Gosched()
		}
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}
