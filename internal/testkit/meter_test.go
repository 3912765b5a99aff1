package testkit

import (
	"math"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPromiseStandsAsItIsOnAQuietMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock is never late
		m := NewMeter()
		m.before = nil          // the threads of this process are on a real machine
		time.Sleep(time.Minute) // the bubble's clock
		m.Stop()
		if limit := m.Limit(time.Second); limit != time.Second {
			t.Errorf("the limit is %v", limit)
		}
	})
}

func TestAPromiseIsExtendedByThePausesOfTheMachine(t *testing.T) {
	m := NewMeter()
	m.Stop()
	m.before = nil
	for pause, want := range map[time.Duration]time.Duration{
		time.Millisecond:      time.Second + handovers*time.Millisecond,
		50 * time.Millisecond: 1500 * time.Millisecond,
		time.Hour:             mostStretch * time.Second,
	} {
		m.pause.Store(int64(pause))
		if got := m.Limit(time.Second); got != want {
			t.Errorf("with a pause of %v the limit of 1s is %v, want %v", pause, got, want)
		}
	}
}

func TestAPromiseIsExtendedByTheDelaysOfEachProcess(t *testing.T) {
	if got := (delays{"1": 5, "2": 30, "3": 7}).longestSince(delays{"1": 4, "2": 28}); got != 7 {
		t.Errorf("the longest delay that was added is %v, want 7ns", got)
	}
	if got := delays(nil).longestSince(nil); got != 0 {
		t.Errorf("a process that is gone has a delay of %v", got)
	}
	if runtime.GOOS == "linux" && len(delaysOf(os.Getpid())) == 0 {
		t.Error("this process has no threads")
	}
}

func TestAPromiseIsAwaitedAsLongAsItMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter()
		m.Stop()
		m.before = nil
		m.pause.Store(int64(time.Second))
		c := make(chan struct{})
		if m.Within(5*time.Second, c) || time.Since(m.began) != 15*time.Second {
			t.Errorf("waited for %v, want 5s and 10 pauses", time.Since(m.began))
		}
		close(c)
		if !m.Within(time.Minute, c) || time.Since(m.began) != 15*time.Second {
			t.Error("waited although the channel was closed")
		}
	})
}

func TestTheShareThatMayBeLateGrowsWithThatOfThePauses(t *testing.T) {
	m := NewMeter()
	m.Stop()
	for late, want := range map[int64]float64{0: 0.02, 1: 0.03, 50: 0.52, 200: 1} {
		m.turns.Store(1000)
		m.late.Store(late)
		if got := m.Share(0.02); math.Abs(got-want) > 1e-9 {
			t.Errorf("with %d pauses in 1000 turns the share is %v, want %v", late, got, want)
		}
	}
}
