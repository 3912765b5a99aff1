package mesh

import (
	"slices"
	"time"
)

const (
	// lingerTime is how long a hash stays interesting after its last reference ended, at least; at most twice that.
	// A user who reconnects, a group that empties and fills, cost the peers nothing.
	lingerTime = 10 * time.Second
	// fadeLimit is how many hashes one tick looks at: when a load balancer drops its clients, half a million fade at once, and
	// probes must not wait for that.
	fadeLimit = 8192
	// interestBuckets bounds how many hashes a part of a snapshot has to sort: about 1,000 of a million.
	interestBuckets = 1 << (64 - interestShift)
	interestShift   = 54
	// logLimit is how many changes are remembered for peers that have not been told yet (1 MiB, at times twice
	// that). Who is further behind gets a snapshot.
	logLimit = 1 << 16
)

// interest is what this hub has, as its peers know it: hashes with their references.
//
// It counts references for each hash, not for each name: of two groups with the same hash one may end, and the
// other must still be found. Each change of the set of hashes has a version, counted from 1; the last changes are
// kept in a log, from which each feed tells its peer.
type interest struct {
	buckets [interestBuckets]map[Hash]need
	len     int
	fading  []fading // hashes that had no reference for a moment, by time

	version uint64   // changes so far
	log     []change // the last ones, up to version
}

// need is one hash that this hub wants to hear of.
type need struct {
	references uint32
	fading     bool          // it is in the queue
	until      time.Duration // without references: when it goes
	version    uint64        // the change with which it came
}

type fading struct {
	hash Hash
	at   time.Duration
}

// change says that a hash came or went.
type change struct {
	hash  Hash
	added bool
}

func (n *interest) bucketOf(h Hash) *map[Hash]need { return &n.buckets[h>>interestShift] }

// addReference takes one reference.
func (n *interest) addReference(h Hash) {
	b := n.bucketOf(h)
	if *b == nil {
		*b = make(map[Hash]need)
	}
	e, known := (*b)[h]
	if !known {
		n.recordChange(change{h, true})
		n.len++
		e.version = n.version
	}
	e.references++
	(*b)[h] = e
}

// versionOf returns the change that peers must know of before references to a hash are in force: one that has been
// here for long had its change long ago, one that came a moment ago may still be on its way. 0: there are none.
func (n *interest) versionOf(h Hash) (version uint64) { return (*n.bucketOf(h))[h].version }

// removeReference gives one reference back; false: there was none.
func (n *interest) removeReference(now time.Duration, h Hash) bool {
	b := n.bucketOf(h)
	e := (*b)[h]
	if e.references == 0 {
		return false
	}
	e.references--
	if e.references == 0 {
		e.until = now + lingerTime
		if !e.fading {
			e.fading = true
			n.fading = append(n.fading, fading{h, e.until})
		}
	}
	(*b)[h] = e
	return true
}

// removeFaded removes the hashes that had no reference for long enough.
func (n *interest) removeFaded(now time.Duration) {
	for done := 0; len(n.fading) > 0 && n.fading[0].at <= now && done < fadeLimit; done++ {
		h := n.fading[0].hash
		n.fading = n.fading[1:]
		b := n.bucketOf(h)
		e := (*b)[h]
		switch {
		case e.references > 0:
			e.fading = false
			(*b)[h] = e
		case e.until > now: // it was used meanwhile: once more round
			n.fading = append(n.fading, fading{h, now + lingerTime})
		default:
			delete(*b, h)
			n.len--
			n.recordChange(change{h, false})
		}
	}
}

// nextDeadline is when fade has something to do.
func (n *interest) nextDeadline() time.Duration {
	if len(n.fading) == 0 {
		return never
	}
	return n.fading[0].at
}

func (n *interest) recordChange(c change) {
	if len(n.log) >= 2*logLimit {
		n.log = append(n.log[:0], n.log[logLimit:]...)
	}
	n.log = append(n.log, c)
	n.version++
}

// changesSince returns up to limit changes after a version, oldest first; false: they are not remembered.
func (n *interest) changesSince(version uint64, limit int) ([]change, bool) {
	behind := n.version - version
	if behind > uint64(len(n.log)) {
		return nil, false
	}
	news := n.log[uint64(len(n.log))-behind:]
	return news[:min(limit, len(news))], true
}

// snapshotPage returns up to limit hashes from `from` on, in order, and where the next page starts; done: it was the
// last. Changes between two pages are in the log, so pages and log together tell everything.
func (n *interest) snapshotPage(from Hash, limit int) (page []Hash, next Hash, done bool) {
	for i := from >> interestShift; i < interestBuckets; i++ {
		start := len(page)
		for h := range n.buckets[i] {
			if h >= from {
				page = append(page, h)
			}
		}
		slices.Sort(page[start:])
		if len(page) > limit {
			return page[:limit], page[limit], false
		}
	}
	return page, 0, true
}
