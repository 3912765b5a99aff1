package chaos

import (
	"slices"
	"sync"
	"time"

	"github.com/connhub/connhub/test/chaos/verdict"
)

// recorder has the history of a run. It is safe for concurrent use.
type recorder struct {
	began   time.Time
	clients []verdict.Client

	mu      sync.Mutex
	events  []verdict.Event
	links   int
	sends   int
	streams int
}

// add records an event now.
func (r *recorder) add(e verdict.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Since(r.began)
	r.events = append(r.events, e)
}

// nextNumber counts up a counter of the recorder.
func (r *recorder) nextNumber(counter *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	*counter++
	return *counter
}

// size returns how many events there are.
func (r *recorder) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// history returns what is recorded up to now.
func (r *recorder) history() verdict.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return verdict.History{Clients: r.clients, Events: slices.Clone(r.events)}
}
