package control

import (
	"sync"
	"time"

	"github.com/connhub/connhub/hub"
)

const (
	// maxBurst and maxBurstBytes bound the sends, and the bytes of their requests, that are written
	// to clients together. The last send of a burst may go beyond the bytes by its own size. Each
	// client gets the sends of a burst by a single write. A message of a different caller may wait
	// for a burst, but bursts must not be small: delivery.proto promises as few writes as calls of
	// Send cause.
	maxBurst      = 64
	maxBurstBytes = 256 << 10

	// A stream waits for expected sends before a burst is written if that saves many writes: from
	// manyWrites on, waitPerWrite for each, less than its cost, and maxGather at most.
	manyWrites   = 256
	waitPerWrite = time.Microsecond
	maxGather    = 5 * time.Millisecond
)

// burst is sends of a stream that have begun, in their order. Their clients' links have not been
// asked to write.
type burst struct {
	links hub.Burst
	begun []begunSend
	bytes int // of their requests
}

// bursts has empty bursts for all streams. A stream that rests holds none. The garbage collector
// empties the pool.
var bursts = sync.Pool{New: func() any { return new(burst) }}

func newBurst() *burst { return bursts.Get().(*burst) }

// appendBurst moves the sends of next, which are later ones, to b. It recycles next.
func (b *burst) appendBurst(next *burst) {
	b.links.Append(&next.links)
	b.begun = append(b.begun, next.begun...)
	b.bytes += next.bytes
	next.recycleBurst()
}

// recycleBurst empties a burst that was written or moved, and gives it back. The caller must have
// the only reference. A burst with links is not used again: a protocol panicked.
func (b *burst) recycleBurst() {
	clear(b.begun)
	b.begun, b.bytes = b.begun[:0], 0
	if b.links.Writes() == 0 {
		bursts.Put(b)
	}
}

// burstQueue holds the burst of a stream that the sends of several requests share.
//
// Problem: gRPC does not tell whether more requests wait, and Recv blocks if there is none. A send
// must not wait for a request that may never come. But if each request were written before the
// next is received, each would cost its clients a write. A goroutine that receives ahead, for
// another that begins sends, would cost a switch for each request.
//
// Outline: the goroutine that receives begins the sends, and leaves them here for the handler,
// which it wakes in any case. The handler asks the links to write, then sends the results. While it
// does, the next sends gather.
//
// Invariants:
//
//   - A burst has at most maxBurst sends, and less than maxBurstBytes before its last send.
//   - Sends are written and accepted in the order that they began, under turn.
//   - While attended is set, the handler runs or has a token of answers.news, and it has the links
//     write before it sends a response. Otherwise the receiver does that itself, because a backend
//     that does not read blocks the handler.
type burstQueue struct {
	// turn is a lock with room for a single holder. It is held while a burst is taken, written and
	// accepted, and is taken before mu.
	turn chan struct{}

	mu       sync.Mutex
	waiting  *burst // nil: no send waits
	attended bool
}

// addBurst takes over b, which has sends. It returns how many sends, and bytes, wait here now. must
// means that the caller must call flushSends: the handler will not, or the burst is full.
func (q *burstQueue) addBurst(b *burst) (sends, bytes int, must bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = b
	} else {
		q.waiting.appendBurst(b)
	}
	sends, bytes = len(q.waiting.begun), q.waiting.bytes
	return sends, bytes, !q.attended || isFullBurst(sends, bytes)
}

func isFullBurst(sends, bytes int) bool { return sends >= maxBurst || bytes >= maxBurstBytes }

// takeBurst returns the sends that wait; nil: none. The caller must hold turn.
func (q *burstQueue) takeBurst() *burst {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.waiting
	q.waiting = nil
	return b
}

// attend makes the handler responsible for the sends that the receiver adds.
func (q *burstQueue) attend() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.attended = true
}

// unattend makes the receiver responsible for the sends that it adds from now on. It reports
// whether some wait, for which the handler stays responsible.
func (q *burstQueue) unattend() (some bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.attended = false
	return q.waiting != nil
}

// worthWaiting returns how long it pays to wait for more sends: 0 if too few writes wait, or a full
// burst.
func (q *burstQueue) worthWaiting() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil || isFullBurst(len(q.waiting.begun), q.waiting.bytes) {
		return 0
	}
	writes := q.waiting.links.Writes()
	if writes < manyWrites {
		return 0
	}
	return min(time.Duration(writes)*waitPerWrite, maxGather)
}
