package testkit

import (
	"flag"
	"testing"
	"time"
)

const (
	// quietPatience is how long a wait lasts at least. Nothing that a test waits for takes as long on a quiet
	// machine of two cores with the race detector.
	quietPatience = time.Minute
	// quietPause is the longest pause that such a machine makes while a test waits.
	quietPause = 5 * time.Millisecond
	// mostStretch is how many times longer than on a quiet machine a wait, or a promise, may get.
	mostStretch = 20
	// lastReserve is what a wait leaves of the test binary's own time, so that the test fails with its message.
	lastReserve = 10 * time.Second
	// firstTurn is how long a wait sleeps until it looks again, at first; then twice as long each time, up to longTurn:
	// to look may cost a hub something.
	firstTurn, longTurn = time.Millisecond, 16 * time.Millisecond
)

// Patience bounds one wait for what must come. It is owned by one goroutine.
type Patience struct {
	began    time.Time
	deadline time.Time     // of the test binary; zero: none
	timer    *time.Timer   // of a turn
	turn     time.Duration // how long this one is
	asked    time.Time     // when the turn began
	pause    time.Duration // the longest so far
}

// NewPatience begins a wait. The caller must Stop it.
func NewPatience() *Patience {
	return &Patience{began: time.Now(), deadline: binaryDeadline(), timer: time.NewTimer(longTurn)}
}

// binaryStarted is when the test binary did, nearly. In a bubble, whose clock is another one, it is far in the future.
var binaryStarted = time.Now()

// binaryDeadline is when a wait must be over so that the test binary can still tell about it; zero: the binary has all
// the time in the world. It does not ask T.Deadline, which panics in a bubble.
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

// Turn begins a turn. The channel has a value when it is time to look again; the receiver then calls IsOver.
func (p *Patience) Turn() <-chan time.Time {
	p.asked, p.turn = time.Now(), max(firstTurn, min(2*p.turn, longTurn))
	p.timer.Reset(p.turn)
	return p.timer.C
}

// IsOver reports whether the wait has lasted as long as it may: a minute on a quiet machine, in proportion longer where
// the turns end late, and never beyond the end of the test binary. It must be called at the end of each turn.
func (p *Patience) IsOver() bool {
	now := time.Now()
	p.pause = max(p.pause, now.Sub(p.asked)-p.turn)
	limit := stretch(quietPatience, float64(p.pause)/float64(quietPause))
	return now.Sub(p.began) > limit || !p.deadline.IsZero() && now.After(p.deadline)
}

// stretch returns d times by, but at least d and at most mostStretch times d.
func stretch(d time.Duration, by float64) time.Duration {
	return time.Duration(float64(d) * min(max(by, 1), mostStretch))
}

// Eventually waits until holds reports true, which it asks at each turn, and fails the test with what when it
// does not come.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Holds(t, holds) {
		t.Fatalf("waited in vain: %s", what)
	}
}

// Holds is Eventually for goroutines other than the test's. It reports whether it came, and ends with the
// test's context.
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

// Receive waits for the next value of c, or for its end, and fails the test with what when neither comes.
func Receive[T any](t testing.TB, what string, c <-chan T) (value T, ok bool) {
	t.Helper()
	p := NewPatience()
	defer p.Stop()
	for {
		select {
		case value, ok = <-c:
			return value, ok
		case <-p.Turn():
			if p.IsOver() {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
}
