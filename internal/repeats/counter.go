// Package repeats decides which of the events that come again and again get a line in the log:
// the first of each kind at once, then a line an interval, with a count. So a failure that
// repeats for hours neither floods the log nor leaves it.
//
// It is a leaf: it imports nothing of ours.
package repeats

import (
	"sync"
	"time"
)

// MaxKinds bounds the kinds that a Counter tells apart, since strangers may make them up. When
// a further kind comes, the counter forgets all, and every kind is new again.
const MaxKinds = 256

// Counter counts events by their kind. The zero value is ready to use. It is safe for
// concurrent use, and must not be copied after its first use.
type Counter[K comparable] struct {
	mu   sync.Mutex
	seen map[K]*tally
}

// tally is the state of a kind.
type tally struct {
	logged   time.Time // when the last line was due
	unlogged int       // events since then
}

// Note counts an event, and reports whether it gets a line: the first of its kind does, and
// then the first that comes an interval or more after the last line. repeats is how many events
// the line stands for since the line before it, with the present event; 0: it is the first of
// its kind.
func (c *Counter[K]) Note(kind K, interval time.Duration) (repeats int, say bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.seen[kind]
	if t == nil {
		if c.seen == nil || len(c.seen) >= MaxKinds {
			c.seen = make(map[K]*tally)
		}
		c.seen[kind] = &tally{logged: time.Now()}
		return 0, true
	}
	t.unlogged++
	if time.Since(t.logged) < interval {
		return 0, false
	}
	repeats = t.unlogged
	t.logged, t.unlogged = time.Now(), 0
	return repeats, true
}

// Any reports whether an event was counted since the last Reset.
func (c *Counter[K]) Any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen) > 0
}

// Reset forgets all events.
func (c *Counter[K]) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = nil
}
