package hub

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// requestMemory is how long a request id is remembered: longer than any sensible retry.
const requestMemory = 5 * time.Minute

// RequestIDBytes is the most memory that a remembered request id takes: when its namespace, with the
// longest name, has no other. Where namespaces have many, it is about 500.
const RequestIDBytes = 800

// requests remembers what was asked under which request id, so that a retry is not delivered twice. What it
// keeps of a request is small: RequestIDBytes at most. That is neither the names nor the message.
type requests struct {
	max int // remembered at once; beyond it the oldest of the largest namespace of the largest caller goes early

	mu      sync.Mutex
	byKey   map[requestKey]*request
	callers arrivals[*request] // all of them, by caller and namespace: a caller may name any namespace
	oldest  []*request         // in the order of arrival, which is that of expiry; some are gone
	gone    int                // of oldest
	evicted int                // gone before their time
}

// requestKey is the SHA-256 of whose request it is and of its id.
type requestKey [sha256.Size]byte

type request struct {
	key     requestKey
	hash    [32]byte
	tally   *tally
	expires time.Time
	from    *userArrivals[*request] // nil: it is gone
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
	q := &request{key: key, hash: s.RequestHash, tally: t, expires: now.Add(requestMemory)}
	q.from = r.callers.add(s.Caller, s.Message.Namespace, q)
	r.byKey[key] = q
	r.oldest = append(r.oldest, q)
	if r.callers.len > r.max {
		_, first := r.callers.first()
		r.forgetLocked(first)
		r.gone++
		r.evicted++
		r.compactLocked()
	}
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
	for len(r.oldest) > 0 {
		switch q := r.oldest[0]; {
		case q.from == nil:
			r.gone--
		case now.Before(q.expires):
			return
		default:
			r.forgetLocked(q)
		}
		r.oldest[0] = nil // the slice's head is given back when append next makes it grow
		r.oldest = r.oldest[1:]
	}
}

// forgetLocked forgets a request, but leaves it in r.oldest.
func (r *requests) forgetLocked(q *request) {
	r.callers.remove(q.from, q)
	q.from, q.tally = nil, nil
	if r.byKey[q.key] == q {
		delete(r.byKey, q.key)
	}
}

// compactLocked takes those that are gone out of r.oldest when they are more than half of it.
func (r *requests) compactLocked() {
	if r.gone > len(r.oldest)/2 {
		r.oldest = slices.DeleteFunc(r.oldest, func(q *request) bool { return q.from == nil })
		r.gone = 0
	}
}

func (r *requests) evictions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evicted
}
