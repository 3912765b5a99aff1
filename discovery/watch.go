package discovery

import (
	"sync"
	"time"
)

// Snapshot is the state of the cluster at a revision of etcd. The maps are shared: do not change
// them.
type Snapshot struct {
	// Members are the registered hubs, by id.
	Members map[string]Member
	// Lapsed are the hubs, by id, whose key is gone although they did not deregister. Such a hub
	// was killed, or is cut off from etcd, or lives and will register again soon because etcd ended
	// its lease.
	Lapsed map[string]Member
	// Revision is etcd's. It grows with each change. It falls if etcd was restored from a backup.
	Revision int64
	// StaleFor is the length of the outage of etcd before this Snapshot, in which hubs may have
	// come and gone unseen. 0: there was no outage.
	StaleFor time.Duration
}

// Watcher receives Snapshots: the current Snapshot at once if there is one, a Snapshot after each
// change, and a Snapshot after each outage of etcd even if nothing changed.
type Watcher struct {
	board *board        // fixed at addWatcher
	next  chan Snapshot // holds at most the latest
}

// Watch returns a new Watcher. The caller must close it.
func (r *Registry) Watch() *Watcher { return r.board.addWatcher() }

// Snapshots returns the channel of Snapshots. A newer Snapshot replaces an unread Snapshot, so a
// slow reader always gets the latest. Close of the Watcher or of the Registry closes the channel.
func (w *Watcher) Snapshots() <-chan Snapshot { return w.next }

// Close ends the Watcher. It may be called again.
func (w *Watcher) Close() { w.board.removeWatcher(w) }

// board shows the latest Snapshot to the watchers. It is safe for concurrent use.
type board struct {
	mu       sync.Mutex
	closed   bool
	latest   Snapshot // Members is nil before the first Snapshot
	watchers map[*Watcher]struct{}
}

func newBoard() *board { return &board{watchers: make(map[*Watcher]struct{})} }

func (b *board) addWatcher() *Watcher {
	w := &Watcher{board: b, next: make(chan Snapshot, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(w.next)
		return w
	}
	b.watchers[w] = struct{}{}
	if b.latest.Members != nil {
		w.next <- b.latest
	}
	return w
}

// showSnapshot sends s to the watchers. The caller must not change the maps of s afterwards.
func (b *board) showSnapshot(s Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Without StaleFor: for a Watcher that is added later there was no outage.
	b.latest = Snapshot{Members: s.Members, Lapsed: s.Lapsed, Revision: s.Revision}
	for w := range b.watchers {
		s := s
		select {
		case overtaken := <-w.next:
			s.StaleFor = max(s.StaleFor, overtaken.StaleFor)
		default:
		}
		w.next <- s // never blocks: only this method sends, and the channel was emptied
	}
}

// countMembers returns the number of registered hubs in the latest Snapshot.
func (b *board) countMembers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.latest.Members)
}

// lapsedMembers returns the lapsed hubs of the latest Snapshot.
func (b *board) lapsedMembers() map[string]Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest.Lapsed
}

func (b *board) removeWatcher(w *Watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.watchers[w]; ok {
		delete(b.watchers, w)
		close(w.next)
	}
}

func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for w := range b.watchers {
		close(w.next)
	}
	clear(b.watchers)
}
