package core

import (
	"slices"
	"time"
)

const (
	// lingerTime is the least time that a hash stays after its last reference; it may stay twice as
	// long. So a user that reconnects, or a group that empties and fills again, costs the peers
	// nothing.
	lingerTime = 10 * time.Second
	// fadeLimit is the most hashes that a tick looks at. If a load balancer drops its clients, half
	// a million hashes fade together, and probes must not wait for that.
	fadeLimit = 8192
	// interestBuckets bounds the hashes that a part of a snapshot has to sort: about 1,000 of a
	// million.
	interestBuckets = 1 << (64 - interestShift)
	interestShift   = 54
	// logLimit is how many changes are kept for peers that lag (1 MiB, at times twice that). A peer
	// that lags more gets a snapshot.
	logLimit = 1 << 16
)

// interest holds the hashes of this hub's users, groups, connections and namespaces, with a count
// of references.
//
// It counts references for each hash, not for each name. Two groups may have the same hash: if the
// first ends, sends must still find the second. Each change of the set has a version, counted from
// 1. A log keeps the latest changes, and each feed sends them to its peer.
type interest struct {
	buckets [interestBuckets]map[Hash]need
	len     int
	fading  []fading // hashes that lost their last reference, by time

	version uint64   // changes so far
	log     []change // the latest changes, up to version
}

// need is a hash that this hub has or lately had.
type need struct {
	references uint32
	fading     bool          // it is in the queue interest.fading
	until      time.Duration // without references: when the hash goes
	version    uint64        // the change that added the hash
}

type fading struct {
	hash Hash
	at   time.Duration
}

// change says that a hash was added or removed.
type change struct {
	hash  Hash
	added bool
}

func (n *interest) bucketOf(h Hash) *map[Hash]need { return &n.buckets[h>>interestShift] }

// addReference adds a reference to h.
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

// versionOf returns the change after which references to h are in force at a peer that knows it.
// The change of an old hash is old; the change of a new hash may still be on its way. 0: this
// hub does not have h.
func (n *interest) versionOf(h Hash) (version uint64) { return (*n.bucketOf(h))[h].version }

// removeReference removes a reference to h. It returns false if there was none.
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

// removeFaded removes the hashes that had no reference for long enough, fadeLimit at most.
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
		case e.until > now: // used meanwhile: queued again
			n.fading = append(n.fading, fading{h, now + lingerTime})
		default:
			delete(*b, h)
			n.len--
			n.recordChange(change{h, false})
		}
	}
}

// nextDeadline returns when removeFaded next has work to do.
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

// changesSince returns up to limit changes after a version, oldest first. It returns false if the
// log does not reach back so far.
func (n *interest) changesSince(version uint64, limit int) ([]change, bool) {
	behind := n.version - version
	if behind > uint64(len(n.log)) {
		return nil, false
	}
	news := n.log[uint64(len(n.log))-behind:]
	return news[:min(limit, len(news))], true
}

// snapshotPage returns up to limit hashes from `from` on, in order, and the start of the next page.
// done: it was the last page. Changes between two pages are in the log, so pages and log together
// are complete.
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
