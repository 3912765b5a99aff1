package hub

import (
	"sync"
	"time"
)

const (
	// requestMemory is how long a request id is remembered: longer than any sensible retry.
	requestMemory = 5 * time.Minute
	// maxRequests bounds the ids remembered at once, about 20 MB; beyond it the oldest goes early.
	maxRequests = 65_536
)

// requests remembers what was asked under which request id, so that a retry is not delivered twice.
type requests struct {
	mu      sync.Mutex
	byKey   map[requestKey]*request
	oldest  []*request // in the order of arrival, which is that of expiry
	evicted int        // gone before their time
}

type requestKey struct{ namespace, caller, id string }

type request struct {
	key     requestKey
	hash    [32]byte
	tally   *tally
	expires time.Time
}

func newRequests() *requests { return &requests{byKey: make(map[requestKey]*request)} }

// begin remembers a request with the tally of its delivery. If its id is known it returns the tally of the
// first instead, or ErrRequestIDReused if that was another request.
func (r *requests) begin(s *Send, t *tally) (*tally, error) {
	now := time.Now()
	key := requestKey{s.Message.Namespace, s.Caller, s.RequestID}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	if known, ok := r.byKey[key]; ok {
		if known.hash != s.RequestHash {
			return nil, ErrRequestIDReused
		}
		return known.tally, nil
	}
	if len(r.oldest) >= maxRequests {
		r.forgetLocked()
		r.evicted++
	}
	q := &request{key, s.RequestHash, t, now.Add(requestMemory)}
	r.byKey[key] = q
	r.oldest = append(r.oldest, q)
	return nil, nil
}

func (r *requests) expireLocked(now time.Time) {
	for len(r.oldest) > 0 && !now.Before(r.oldest[0].expires) {
		r.forgetLocked()
	}
}

// forgetLocked drops the oldest. The slice's head is given back when append next makes it grow.
func (r *requests) forgetLocked() {
	delete(r.byKey, r.oldest[0].key)
	r.oldest[0] = nil
	r.oldest = r.oldest[1:]
}

func (r *requests) evictions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evicted
}
