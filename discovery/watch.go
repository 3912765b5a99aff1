package discovery

import (
	"sync"
	"time"
)

// Snapshot is all hubs that are registered, as of one revision of etcd. Members is shared: read only.
type Snapshot struct {
	Members map[string]Member // by id
	// Lapsed are hubs that have lost their key without having deregistered: each was killed, or cut
	// off from etcd, or it lives and will be back in Members soon, because etcd has ended its
	// lease. Shared like Members.
	Lapsed map[string]Member
	// Revision grows with each change in etcd; it falls when etcd was set back to a backup.
	Revision int64
	// StaleFor is how long etcd was not heard before this one, so that hubs may have come and gone unseen; 0: it was.
	StaleFor time.Duration
}

// Watcher gets a Snapshot at once, if there is one, then one after each change, and one after each loss of etcd
// even if nothing changed.
type Watcher struct {
	board *board
	next  chan Snapshot // holds at most the latest
}

// Watch returns a new Watcher. Close it.
func (r *Registry) Watch() *Watcher { return r.board.watch() }

// Snapshots is closed by Close of the Watcher or of the Registry. A slow reader misses what was overtaken, never the
// latest.
func (w *Watcher) Snapshots() <-chan Snapshot { return w.next }

// Close ends the Watcher. It may be called again.
func (w *Watcher) Close() { w.board.remove(w) }

// board shows the latest Snapshot to the watchers.
type board struct {
	mu       sync.Mutex
	closed   bool
	latest   Snapshot // Members is nil until there is one
	watchers map[*Watcher]struct{}
}

func newBoard() *board { return &board{watchers: make(map[*Watcher]struct{})} }

func (b *board) watch() *Watcher {
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

// show publishes s, whose Members nobody changes any more.
func (b *board) show(s Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latest = Snapshot{Members: s.Members, Lapsed: s.Lapsed, Revision: s.Revision} // it is not stale to a Watcher that comes later
	for w := range b.watchers {
		s := s
		select {
		case overtaken := <-w.next:
			s.StaleFor = max(s.StaleFor, overtaken.StaleFor)
		default:
		}
		w.next <- s // there is room: nobody else sends
	}
}

// len returns how many hubs the latest Snapshot has.
func (b *board) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.latest.Members)
}

// lapsed returns the lapsed hubs of the latest Snapshot.
func (b *board) lapsed() map[string]Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest.Lapsed
}

func (b *board) remove(w *Watcher) {
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
