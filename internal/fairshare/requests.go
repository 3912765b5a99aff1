package fairshare

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// RequestMemory is how long a request id is remembered: longer than any sensible retry.
const RequestMemory = 5 * time.Minute

// Request is a call of a caller under a request id.
type Request struct {
	Namespace string   // of the call
	Caller    string   // the id is the caller's
	ID        string   // of the request
	Hash      [32]byte // of the call: the same id with a different hash is a different request
}

// Requests remembers requests, with a value for each, so that a retry is not carried out twice. It
// keeps little of a request, and none of its strings. It is safe for concurrent use.
type Requests[T comparable] struct {
	// max is how many are remembered at once. Beyond it the oldest request of the largest namespace
	// of the largest caller goes early.
	max int

	mu      sync.Mutex
	byKey   map[requestKey]*request[T]
	callers Arrivals[*request[T]] // all, by caller and namespace: a caller may name any namespace
	oldest  []*request[T]         // in the order of arrival, which is that of expiry; some are gone
	gone    int                   // of oldest
	evicted int                   // gone before their time
}

// requestKey is the SHA-256 of whose request it is and of its id.
type requestKey [sha256.Size]byte

type request[T comparable] struct {
	key     requestKey
	hash    [32]byte
	value   T
	expires time.Time
	from    *UserArrivals[*request[T]] // nil: it is gone
}

// NewRequests returns a memory of at most max requests.
func NewRequests[T comparable](max int) *Requests[T] {
	return &Requests[T]{max: max, byKey: make(map[requestKey]*request[T])}
}

func keyOf(q *Request) requestKey {
	h := sha256.New()
	for _, part := range []string{q.Namespace, q.Caller, q.ID} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return requestKey(h.Sum(nil))
}

// Begin remembers a request with a value. If its id is known, Begin changes nothing and returns the
// value of the first request; same reports whether that had the same hash.
func (r *Requests[T]) Begin(q Request, value T) (first T, known, same bool) {
	now := time.Now()
	key := keyOf(&q)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	if before, ok := r.byKey[key]; ok {
		return before.value, true, before.hash == q.Hash
	}
	made := &request[T]{key: key, hash: q.Hash, value: value, expires: now.Add(RequestMemory)}
	made.from = r.callers.Add(q.Caller, q.Namespace, made)
	r.byKey[key] = made
	r.oldest = append(r.oldest, made)
	if r.callers.Len() > r.max {
		_, oldest := r.callers.First()
		r.forgetLocked(oldest)
		r.gone++
		r.evicted++
		r.compactLocked()
	}
	return first, false, false
}

// Forget takes a request back that came to nothing.
func (r *Requests[T]) Forget(q Request, value T) {
	key := keyOf(&q)
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.byKey[key]; ok && known.value == value {
		delete(r.byKey, key)
	}
}

func (r *Requests[T]) expireLocked(now time.Time) {
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
func (r *Requests[T]) forgetLocked(q *request[T]) {
	r.callers.Remove(q.from, q)
	var none T
	q.from, q.value = nil, none
	if r.byKey[q.key] == q {
		delete(r.byKey, q.key)
	}
}

// compactLocked takes those that are gone out of r.oldest when they are more than half of it.
func (r *Requests[T]) compactLocked() {
	if r.gone > len(r.oldest)/2 {
		r.oldest = slices.DeleteFunc(r.oldest, func(q *request[T]) bool { return q.from == nil })
		r.gone = 0
	}
}

// Evictions returns how many requests were forgotten before their time.
func (r *Requests[T]) Evictions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evicted
}
