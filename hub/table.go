package hub

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// tableBuckets spreads locks, and bounds what a page has to sort. It must be 1 << (64 - bucketShift).
const (
	tableBuckets = 64
	bucketShift  = 58
)

// table is a map in buckets by the upper bits of the name's hash, each with a lock of its own. Walking the
// buckets in turn, each sorted, walks the whole table in the order of (hash, name): an order that no change
// of the table alters, so a page can start where the last one ended, and what is there all through is met
// exactly once. The order is the same in every hub.
type table[V any] struct {
	buckets [tableBuckets]bucket[V]
}

type bucket[V any] struct {
	mu      sync.RWMutex
	entries map[string]V
}

// Cursor is a place in the order of a listing: behind the entry it names. The zero Cursor is before the
// first entry; as a result it says that there is no more.
type Cursor struct {
	Hash uint64
	Name string
}

// CursorOf is the place right behind an entry of that name.
func CursorOf(name string) Cursor { return Cursor{xxhash.Sum64String(name), name} }

// Compare orders places: negative when c comes before d.
func (c Cursor) Compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Hash, d.Hash), cmp.Compare(c.Name, d.Name))
}

func (t *table[V]) bucket(name string) *bucket[V] {
	return &t.buckets[xxhash.Sum64String(name)>>bucketShift]
}

func (t *table[V]) get(name string) (V, bool) {
	b := t.bucket(name)
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok := b.entries[name]
	return v, ok
}

func (t *table[V]) put(name string, v V) {
	b := t.bucket(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(name, v)
}

func (t *table[V]) remove(name string) {
	b := t.bucket(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, name)
}

func (b *bucket[V]) putLocked(name string, v V) {
	if b.entries == nil {
		b.entries = make(map[string]V)
	}
	b.entries[name] = v
}

// all calls yield for every value, a bucket at a time under its read lock.
func (t *table[V]) all(yield func(V)) {
	for i := range t.buckets {
		b := &t.buckets[i]
		b.mu.RLock()
		for _, v := range b.entries {
			yield(v)
		}
		b.mu.RUnlock()
	}
}

// page returns up to limit values behind after, and the cursor of the last one, or the zero Cursor when
// nothing is left.
func (t *table[V]) page(after Cursor, limit int) ([]V, Cursor) {
	type entry struct {
		at    Cursor
		value V
	}
	var page []V
	var last Cursor
	for i := int(after.Hash >> bucketShift); i < tableBuckets; i++ {
		b := &t.buckets[i]
		var found []entry
		b.mu.RLock()
		for name, v := range b.entries {
			if at := CursorOf(name); at.Compare(after) > 0 {
				found = append(found, entry{at, v})
			}
		}
		b.mu.RUnlock()
		slices.SortFunc(found, func(a, b entry) int { return a.at.Compare(b.at) })
		for _, e := range found {
			if len(page) == limit {
				return page, last
			}
			page, last = append(page, e.value), e.at
		}
	}
	return page, Cursor{}
}
