package hub

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of the thread: other work of the machine is not in it.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var spec unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &spec); err != nil {
		t.Fatal(err)
	}
	return time.Duration(spec.Nano())
}

// Duplicates of a send may all wait for it: each costs the same, however many there are.
func TestAWaitCostsTheSameHoweverManyThereAre(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const few, times, written = 1000, 32, 16
	// cost returns the least CPU time of a wait among so many.
	cost := func(n int) time.Duration {
		least := time.Hour
		for range 5 {
			tally := &tally{matched: written + 1}
			over := 0
			stops := make([]func(), n)
			start := cpuTime(t)
			for i := range stops {
				stops[i] = tally.callWhenDue(Wait(int(WaitWritten)+i%2), func() { over++ })
			}
			for range written {
				tally.countWrite(true)
			}
			for _, stop := range stops[n/2:] {
				stop()
			}
			tally.countWrite(false)
			least = min(least, (cpuTime(t)-start)/time.Duration(n))
			if over != n/4 || tally.waiting.Load() != int32(n/4) {
				t.Fatalf("of %d waits %d are over, and %d go on", n, over, tally.waiting.Load())
			}
			for range written {
				tally.countAck()
			}
			if over != n/2 || tally.waiting.Load() != 0 {
				t.Fatalf("of %d waits %d are over, and %d go on", n, over, tally.waiting.Load())
			}
		}
		return least
	}
	if one, many := cost(few), cost(few*times); many > one*times/4 {
		t.Errorf("one of %d waits costs %v, and one of %d %v", few, one, few*times, many)
	}
}
