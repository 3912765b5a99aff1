package control

import (
	"sync"
	"time"

	"github.com/connhub/connhub/hub"
)

const (
	// maxBurst and maxBurstBytes bound the sends, and the bytes of their requests, that are written
	// to clients together. The last send of a burst may go beyond the bytes by its own size. Each
	// client gets the sends of a burst by a single write. Bursts must not be small: delivery.proto
	// promises as few writes as calls of Send cause.
	maxBurst      = 768 // below maxUnanswered
	maxBurstBytes = 256 << 10
	// A message of a different caller may wait for a burst. So a burst of leastBurst sends or more
	// is full with maxBurstDeliveries, too.
	leastBurst         = 64
	maxBurstDeliveries = 320_000

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

// burstSize is how much a burst has.
type burstSize struct {
	sends, bytes int
	deliveries   int
}

func (b *burst) size() burstSize { return burstSize{len(b.begun), b.bytes, b.links.Matched()} }

func (s burstSize) plus(other burstSize) burstSize {
	return burstSize{
		s.sends + other.sends, s.bytes + other.bytes, s.deliveries + other.deliveries,
	}
}

func (s burstSize) isFull() bool {
	return s.sends >= maxBurst || s.bytes >= maxBurstBytes ||
		s.sends >= leastBurst && s.deliveries >= maxBurstDeliveries
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
//   - A burst has at most maxBurst sends, and less than maxBurstBytes before its last send. From
//     leastBurst sends on it has less than maxBurstDeliveries before its last send.
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

// addBurst takes over b, which has sends. It returns how much waits here now. must means that the
// caller must call flushSends: the handler will not, or the burst is full.
func (q *burstQueue) addBurst(b *burst) (waiting burstSize, must bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = b
	} else {
		q.waiting.appendBurst(b)
	}
	waiting = q.waiting.size()
	return waiting, !q.attended || waiting.isFull()
}

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
	if q.waiting == nil {
		return 0
	}
	writes := q.waiting.links.Writes()
	if q.waiting.size().isFull() || writes < manyWrites {
		return 0
	}
	return min(time.Duration(writes)*waitPerWrite, maxGather)
}
