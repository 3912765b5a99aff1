package discovery

import (
	"context"
	"math/rand/v2"
	"time"
)

// Waits between attempts to reach etcd. The longest wait is short: an attempt is a single small
// call, and the effects of an outage should end soon after it.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// backoff computes the waits between attempts. They double up to lastRetry. The jitter keeps the
// hubs from retrying all at once.
type backoff struct {
	next time.Duration // upper bound of the last wait; 0: no attempt has failed
}

func (b *backoff) reset() { b.next = 0 }

// nextDelay returns the wait before the next attempt.
func (b *backoff) nextDelay() time.Duration {
	b.next = min(max(2*b.next, firstRetry), lastRetry)
	return b.next/2 + rand.N(b.next/2)
}

// waitNext sleeps for the next delay. It returns false if ctx was done first.
func (b *backoff) waitNext(ctx context.Context) bool {
	timer := time.NewTimer(b.nextDelay())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
