package mesh

import (
	"slices"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// maxHashes is the most hashes in one Interest (64 KiB).
	maxHashes = 8192
	// feedWindow is the most Interests on their way. It keeps the control stream free for probes, and
	// joins to one message what changes while a peer is slow.
	feedWindow = 4
	// probeWindow is the same when a probe is to be answered: the answer speaks of every change that there is, and gives no lease
	// to a peer that was not told of all.
	probeWindow = 3 * feedWindow
)

// feed tells one peer, on one link, what this hub has: a snapshot, then the changes. It remembers a place in the
// interest and not what it has to say, so a peer that does not listen costs nothing.
type feed struct {
	sequence uint64   // Interests sent
	flight   []uint64 // the versions of those that are not confirmed
	version  uint64   // changes told

	scanning bool // the snapshot is not complete
	started  bool // its first message is out
	cursor   Hash // its next hash
	// its last message was a page: changes come next, so that neither holds up the other
	paged bool
}

func newFeed(n *interest) *feed {
	f := &feed{}
	f.restartSnapshot(n)
	return f
}

// restartSnapshot begins a snapshot: of what is there now, and with the changes from now on.
func (f *feed) restartSnapshot(n *interest) {
	f.scanning, f.started, f.cursor, f.version = true, false, 0, n.version
}

// nextMessages returns what may be sent now.
func (f *feed) nextMessages(n *interest) []*peerv1.Interest { return f.fillWindow(n, feedWindow) }

// catchUp returns the next changes, though the window is full: before the answer to a probe.
func (f *feed) catchUp(n *interest) []*peerv1.Interest {
	if f.scanning || f.version == n.version {
		return nil
	}
	return f.fillWindow(n, min(len(f.flight)+1, probeWindow))
}

func (f *feed) fillWindow(n *interest, window int) (out []*peerv1.Interest) {
	for len(f.flight) < window && (f.scanning || f.version < n.version) {
		m := &peerv1.Interest{}
		news, remembered := n.changesSince(f.version, maxHashes)
		switch {
		case !remembered:
			f.restartSnapshot(n)
			continue
		case len(news) > 0 && f.started && (f.paged || !f.scanning):
			m.Added, m.Removed = collapseChanges(news)
			f.version += uint64(len(news))
			f.paged = false
		// what a page finds beyond the changes told does no harm: they come, and say it again
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
	page, next, done := n.snapshotPage(f.cursor, maxHashes)
	m.Added, m.SnapshotEnd = toNumbers(page), done
	f.cursor, f.scanning = next, !done
}

// confirmSequence takes a confirmation, and returns the version that the peer has with it; false: of what was not sent.
func (f *feed) confirmSequence(sequence uint64) (version uint64, ok bool) {
	if sequence > f.sequence {
		return 0, false
	}
	n := len(f.flight) - int(f.sequence-sequence)
	if n <= 0 {
		return 0, true // known already
	}
	version = f.flight[n-1]
	f.flight = f.flight[n:]
	return version, true
}

// collapseChanges tells what a run of changes comes to.
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
