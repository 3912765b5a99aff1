package testkit

import (
	"flag"
	"testing"
	"time"
)

const (
	// quietPatience is the shortest limit of a wait. On a quiet machine with two cores and the race
	// detector, no event that a test waits for takes as long.
	quietPatience = time.Minute
	// quietPause is the longest pause of such a machine while a test waits.
	quietPause = 5 * time.Millisecond
	// mostStretch is the greatest factor by which a wait or a promise is extended on a busy
	// machine.
	mostStretch = 20
	// lastReserve is the time between the end of a wait and the timeout of the test binary. In it,
	// the test fails with its own message.
	lastReserve = 10 * time.Second
	// firstTurn is the length of the first turn of a wait. Each turn is twice as long as the turn
	// before it, up to longTurn, because a check may cost a hub some work.
	firstTurn, longTurn = time.Millisecond, 16 * time.Millisecond
)

// Patience bounds a wait for an event that must come. It is not safe for concurrent use.
type Patience struct {
	began    time.Time
	deadline time.Time     // latest end of the wait (binaryDeadline); zero: none
	timer    *time.Timer   // ends a turn
	turn     time.Duration // length of the current turn
	asked    time.Time     // start of the current turn
	pause    time.Duration // the longest pause so far
}

// NewPatience begins a wait. The caller must Stop it.
func NewPatience() *Patience {
	return &Patience{began: time.Now(), deadline: binaryDeadline(), timer: time.NewTimer(longTurn)}
}

// binaryStarted is about the start of the test binary. By the clock of a bubble it is far in the
// future.
var binaryStarted = time.Now()

// binaryDeadline returns the latest end of a wait: lastReserve before the timeout of the test
// binary, or zero if there is no timeout. It does not call T.Deadline, which panics in a bubble.
func binaryDeadline() time.Time {
	if f := flag.Lookup("test.timeout"); f != nil {
		if limit, _ := f.Value.(flag.Getter).Get().(time.Duration); limit > 0 {
			return binaryStarted.Add(limit - lastReserve)
		}
	}
	return time.Time{}
}

// Stop ends the wait.
func (p *Patience) Stop() { p.timer.Stop() }

// Turn begins a turn. The channel receives a value at the end of the turn. The caller then checks
// its event again and calls IsOver.
func (p *Patience) Turn() <-chan time.Time {
	p.asked, p.turn = time.Now(), max(firstTurn, min(2*p.turn, longTurn))
	p.timer.Reset(p.turn)
	return p.timer.C
}

// IsOver reports whether the wait has reached its limit: a minute on a quiet machine, and longer in
// proportion to the longest pause, but never past the timeout of the test binary. It must be called
// at the end of each turn.
func (p *Patience) IsOver() bool {
	now := time.Now()
	p.pause = max(p.pause, now.Sub(p.asked)-p.turn)
	limit := extendTime(quietPatience, float64(p.pause)/float64(quietPause))
	return now.Sub(p.began) > limit || !p.deadline.IsZero() && now.After(p.deadline)
}

// extendTime returns d times by, but at least d and at most mostStretch times d.
func extendTime(d time.Duration, by float64) time.Duration {
	return time.Duration(float64(d) * min(max(by, 1), mostStretch))
}

// Eventually calls holds at each turn until it reports true. If the wait reaches its limit,
// Eventually fails the test with the name of the event. It must be called on the test's goroutine.
func Eventually(t testing.TB, event string, holds func() bool) {
	t.Helper()
	if !Holds(t, holds) {
		t.Fatalf("waited in vain: %s", event)
	}
}

// Holds is Eventually for any goroutine. It reports whether holds came true, and returns false at
// the end of the test's context.
func Holds(t testing.TB, holds func() bool) bool {
	p := NewPatience()
	defer p.Stop()
	for !holds() {
		select {
		case <-p.Turn():
			if p.IsOver() {
				return false
			}
		case <-t.Context().Done():
			return false
		}
	}
	return true
}

// Receive waits until c has a value or is closed. If the wait reaches its limit, Receive fails the
// test with the name of the event. It must be called on the test's goroutine.
func Receive[T any](t testing.TB, event string, c <-chan T) (value T, ok bool) {
	t.Helper()
	p := NewPatience()
	defer p.Stop()
	for {
		select {
		case value, ok = <-c:
			return value, ok
		case <-p.Turn():
			if p.IsOver() {
				t.Fatalf("waited in vain: %s", event)
			}
		}
	}
}
