package discovery

import (
	"context"
	"math/rand/v2"
	"time"
)

// Waits between attempts to reach etcd. The longest is short: attempts are one small call each, and all that
// an outage costs should end soon after it.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// backoff spaces out attempts, ever wider, and with jitter so that the hubs don't come back in step.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// delay returns how long to wait before the next attempt.
func (b *backoff) delay() time.Duration {
	b.next = min(max(2*b.next, firstRetry), lastRetry)
	return b.next/2 + rand.N(b.next/2)
}

// wait sleeps for the next delay; false: ctx is done.
func (b *backoff) wait(ctx context.Context) bool {
	timer := time.NewTimer(b.delay())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
