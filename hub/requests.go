package hub

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// requestMemory is how long a request id is remembered: longer than any sensible retry.
const requestMemory = 5 * time.Minute

// requests remembers what was asked under which request id, so that a retry is not delivered twice. What it
// keeps of a request is small and of fixed size, about 300 bytes: neither names nor the message.
type requests struct {
	max int // remembered at once; beyond it the oldest goes early

	mu      sync.Mutex
	byKey   map[requestKey]*request
	oldest  []*request // in the order of arrival, which is that of expiry
	evicted int        // gone before their time
}

// requestKey is the SHA-256 of whose request it is and of its id.
type requestKey [sha256.Size]byte

type request struct {
	key     requestKey
	hash    [32]byte
	tally   *tally
	expires time.Time
}

func newRequests(max int) *requests {
	return &requests{max: max, byKey: make(map[requestKey]*request)}
}

func keyOf(s *Send) requestKey {
	h := sha256.New()
	for _, part := range []string{s.Message.Namespace, s.Caller, s.RequestID} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return requestKey(h.Sum(nil))
}

// begin remembers a request with the tally of its delivery. If its id is known it returns the tally of the
// first instead, or ErrRequestIDReused if that was another request.
func (r *requests) begin(s *Send, t *tally) (*tally, error) {
	now := time.Now()
	key := keyOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	if known, ok := r.byKey[key]; ok {
		if known.hash != s.RequestHash {
			return nil, ErrRequestIDReused
		}
		return known.tally, nil
	}
	if len(r.oldest) >= r.max {
		r.forgetOldestLocked()
		r.evicted++
	}
	q := &request{key, s.RequestHash, t, now.Add(requestMemory)}
	r.byKey[key] = q
	r.oldest = append(r.oldest, q)
	return nil, nil
}

// forget takes a request back that came to nothing.
func (r *requests) forget(s *Send, t *tally) {
	key := keyOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if q, ok := r.byKey[key]; ok && q.tally == t {
		delete(r.byKey, key)
	}
}

func (r *requests) expireLocked(now time.Time) {
	for len(r.oldest) > 0 && !now.Before(r.oldest[0].expires) {
		r.forgetOldestLocked()
	}
}

// forgetOldestLocked drops the oldest. The slice's head is given back when append next makes it grow.
func (r *requests) forgetOldestLocked() {
	q := r.oldest[0]
	if r.byKey[q.key] == q {
		delete(r.byKey, q.key)
	}
	r.oldest[0] = nil
	r.oldest = r.oldest[1:]
}

func (r *requests) evictions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evicted
}
