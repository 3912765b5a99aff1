package transfer

import "time"

// TombstoneAge is how long a tombstone stays: longer than a client tries to resume.
const TombstoneAge = 5 * time.Minute

// Tombstone says where a connection went.
type Tombstone struct {
	Hub   string // id of the new hub
	Epoch uint32 // the connection's from then on
}

// Tombstones are those of a hub, by connection id. It needs a lock.
type Tombstones struct {
	// Most is how many tombstones are kept at once, at about 200 bytes each. The oldest goes early
	// when there are more. It must be set before Put.
	Most int

	byID   map[string]grave
	oldest []grave // in the order of Put; some are replaced or removed
}

type grave struct {
	Tombstone

	connection string
	until      time.Time
}

// Put keeps a tombstone, in place of an earlier tombstone of the connection.
func (t *Tombstones) Put(connection string, stone Tombstone) {
	now := time.Now()
	t.dropExpired(now)
	if t.byID == nil {
		t.byID = make(map[string]grave)
	}
	g := grave{stone, connection, now.Add(TombstoneAge)}
	t.byID[connection] = g
	t.oldest = append(t.oldest, g)
	if len(t.oldest) > t.Most {
		t.dropOldest()
	}
}

// Get returns the tombstone of a connection, and reports whether it is known.
func (t *Tombstones) Get(connection string) (Tombstone, bool) {
	t.dropExpired(time.Now())
	g, ok := t.byID[connection]
	return g.Tombstone, ok
}

// Remove drops the tombstone of a connection that is back.
func (t *Tombstones) Remove(connection string) { delete(t.byID, connection) }

// Len returns how many there are.
func (t *Tombstones) Len() int { return len(t.byID) }

func (t *Tombstones) dropExpired(now time.Time) {
	for len(t.oldest) > 0 && !now.Before(t.oldest[0].until) {
		t.dropOldest()
	}
	if len(t.byID) == 0 {
		t.byID, t.oldest = nil, nil // a drain leaves many, and needs the memory no more
	}
}

func (t *Tombstones) dropOldest() {
	first := t.oldest[0]
	t.oldest[0] = grave{}
	t.oldest = t.oldest[1:]
	if t.byID[first.connection] == first {
		delete(t.byID, first.connection)
	}
}
