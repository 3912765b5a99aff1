package core

import (
	"slices"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// MaxHashes is the most hashes in an Interest (64 KiB).
	MaxHashes = 8192
	// feedWindow is the most unconfirmed Interests. It keeps the Control stream free for probes.
	// While a peer is slow, the later changes gather into a single message.
	feedWindow = 4
	// probeWindow is the window before the answer to a probe. The answer speaks of every change so
	// far, and gives no lease to a peer that does not have them all.
	probeWindow = 3 * feedWindow
)

// feed sends this hub's interest to a peer, on a single link: a snapshot, then the changes. It
// remembers a position in the interest and no messages, so a peer that does not read costs nothing.
type feed struct {
	sequence uint64   // Interests sent
	flight   []uint64 // versions of the unconfirmed Interests
	version  uint64   // the changes sent

	scanning bool // the snapshot is not complete
	started  bool // its first message was sent
	cursor   Hash // the next hash of the snapshot
	// The latest message was a page of the snapshot. Changes come next: the snapshot does not
	// hold up changes, nor changes the snapshot.
	paged bool
}

func newFeed(n *interest) *feed {
	f := &feed{}
	f.restartSnapshot(n)
	return f
}

// restartSnapshot begins a snapshot of the present hashes. The later changes follow it.
func (f *feed) restartSnapshot(n *interest) {
	f.scanning, f.started, f.cursor, f.version = true, false, 0, n.version
}

// nextMessages returns the messages that the window has room for.
func (f *feed) nextMessages(n *interest) []*peerv1.Interest { return f.fillWindow(n, feedWindow) }

// catchUp returns a message of the next changes although the window is full. It is called before
// the answer to a probe.
func (f *feed) catchUp(n *interest) []*peerv1.Interest {
	if f.scanning || f.version == n.version {
		return nil
	}
	return f.fillWindow(n, min(len(f.flight)+1, probeWindow))
}

func (f *feed) fillWindow(n *interest, window int) (out []*peerv1.Interest) {
	for len(f.flight) < window && (f.scanning || f.version < n.version) {
		m := &peerv1.Interest{}
		news, remembered := n.changesSince(f.version, MaxHashes)
		switch {
		case !remembered:
			f.restartSnapshot(n)
			continue
		case len(news) > 0 && f.started && (f.paged || !f.scanning):
			m.Added, m.Removed = collapseChanges(news)
			f.version += uint64(len(news))
			f.paged = false
		// A page may be ahead of the changes sent. That does no harm: the changes follow, and
		// repeat it.
		default:
			f.fillPage(n, m)
			f.paged = true
		}
		f.sequence++
		m.Sequence, m.Version = f.sequence, f.version
		f.flight = append(f.flight, f.version)
		out = append(out, m)
	}
	return out
}

// fillPage makes m the next page of the snapshot.
func (f *feed) fillPage(n *interest, m *peerv1.Interest) {
	if !f.started {
		f.started, f.version = true, n.version
		m.SnapshotStart = true
	}
	page, next, done := n.snapshotPage(f.cursor, MaxHashes)
	m.Added, m.SnapshotEnd = toNumbers(page), done
	f.cursor, f.scanning = next, !done
}

// confirmSequence processes a confirmation. It returns the version that the peer now has, or false
// if no Interest with that sequence was sent.
func (f *feed) confirmSequence(sequence uint64) (version uint64, ok bool) {
	if sequence > f.sequence {
		return 0, false
	}
	n := len(f.flight) - int(f.sequence-sequence)
	if n <= 0 {
		return 0, true // an earlier confirmation covers it
	}
	version = f.flight[n-1]
	f.flight = f.flight[n:]
	return version, true
}

// collapseChanges returns the net effect of changes, sorted.
func collapseChanges(changes []change) (added, removed []uint64) {
	last := make(map[Hash]bool, len(changes))
	for _, c := range changes {
		last[c.hash] = c.added
	}
	for h, is := range last {
		if is {
			added = append(added, uint64(h))
		} else {
			removed = append(removed, uint64(h))
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed
}

func toNumbers(hashes []Hash) []uint64 {
	out := make([]uint64, len(hashes))
	for i, h := range hashes {
		out[i] = uint64(h)
	}
	return out
}
