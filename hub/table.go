package hub

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// tableBuckets spreads locks, and bounds the entries that a page has to sort. It must be 1 << (64 -
// bucketShift).
const (
	tableBuckets = 64
	bucketShift  = 58
)

// table is a map by name. It has buckets by the upper bits of the name's hash, each with its own
// lock.
//
// Walking the buckets in turn, each sorted, walks the whole table in the order of (hash, name). No
// change of the table alters that order. So a page can start at the end of the last page, and an
// entry that is there all through is met exactly once. The order is the same in every hub.
type table[V named] struct {
	buckets [tableBuckets]bucket[V]
}

// named is a value of a table: it knows its own name.
type named interface{ key() string }

// bucket is a map from names to values. Its keys are the hashes, which are there anyway, and not
// the names. That saves 12 bytes an entry or more, and hashing the name again.
type bucket[V named] struct {
	mu      sync.RWMutex
	entries map[uint64]V
	// twins holds the values whose hash an earlier entry had: none, unless names were made for it.
	twins map[string]V
}

// Cursor is a place in the order of a listing: behind the entry it names. The zero Cursor is before
// the first entry; as a result it says that there is no more.
type Cursor struct {
	// Hash is that of Name.
	Hash uint64
	// Name is that of the entry.
	Name string
}

// CursorOf returns the place right behind an entry of that name.
func CursorOf(name string) Cursor { return Cursor{xxhash.Sum64String(name), name} }

// Compare orders places: negative when c comes before d.
func (c Cursor) Compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Hash, d.Hash), cmp.Compare(c.Name, d.Name))
}

// bucketOf returns the bucket of a name, and the name's hash.
func (t *table[V]) bucketOf(name string) (*bucket[V], uint64) {
	hash := xxhash.Sum64String(name)
	return &t.buckets[hash>>bucketShift], hash
}

func (t *table[V]) getValue(name string) (V, bool) {
	b, hash := t.bucketOf(name)
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.getLocked(hash, name)
}

func (t *table[V]) putValue(v V) {
	b, hash := t.bucketOf(v.key())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(hash, v)
}

func (t *table[V]) removeValue(name string) {
	b, hash := t.bucketOf(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeLocked(hash, name)
}

func (b *bucket[V]) getLocked(hash uint64, name string) (V, bool) {
	if v, ok := b.entries[hash]; ok && v.key() == name {
		return v, true
	}
	v, ok := b.twins[name]
	return v, ok
}

// putLocked adds a value whose name is not there.
func (b *bucket[V]) putLocked(hash uint64, v V) {
	if b.entries == nil {
		b.entries = make(map[uint64]V)
	}
	if _, taken := b.entries[hash]; !taken {
		b.entries[hash] = v
		return
	}
	if b.twins == nil {
		b.twins = make(map[string]V)
	}
	b.twins[v.key()] = v
}

func (b *bucket[V]) removeLocked(hash uint64, name string) {
	if v, ok := b.entries[hash]; ok && v.key() == name {
		delete(b.entries, hash)
	} else {
		delete(b.twins, name)
	}
}

// eachValueLocked calls yield for every value.
func (b *bucket[V]) eachValueLocked(yield func(V)) {
	for _, v := range b.entries {
		yield(v)
	}
	for _, v := range b.twins {
		yield(v)
	}
}

// eachValue calls yield for every value, a bucket at a time under its read lock.
func (t *table[V]) eachValue(yield func(V)) {
	for i := range t.buckets {
		b := &t.buckets[i]
		b.mu.RLock()
		b.eachValueLocked(yield)
		b.mu.RUnlock()
	}
}

// len returns how many values there are, at about the same time.
func (t *table[V]) len() (n int) {
	for i := range t.buckets {
		b := &t.buckets[i]
		b.mu.RLock()
		n += len(b.entries) + len(b.twins)
		b.mu.RUnlock()
	}
	return n
}

// listPage returns up to limit values behind after, and the cursor of the last of them. The cursor
// is zero when nothing is left.
func (t *table[V]) listPage(after Cursor, limit int) ([]V, Cursor) {
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
		b.eachValueLocked(func(v V) {
			if at := CursorOf(v.key()); at.Compare(after) > 0 {
				found = append(found, entry{at, v})
			}
		})
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
