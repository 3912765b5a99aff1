package testkit

import (
	"testing"
	"testing/synctest"
	"time"
)

// runLateTurns runs turns that end late by pause until the wait is over, and returns the length of
// the wait. In a bubble, its sleep plays the part of a busy machine.
func runLateTurns(p *Patience, pause time.Duration) time.Duration {
	defer p.Stop()
	for {
		<-p.Turn()
		time.Sleep(pause) // the bubble's clock
		if p.IsOver() {
			return time.Since(p.began)
		}
	}
}

func TestPatienceGrowsWithThePausesOfTheMachine(t *testing.T) {
	for name, tt := range map[string]struct{ pause, want time.Duration }{
		"a quiet machine":                           {0, quietPatience},
		"the longest pause of a quiet machine":      {quietPause, quietPatience},
		"ten times as long":                         {10 * quietPause, 10 * quietPatience},
		"a machine that is stopped again and again": {time.Second, mostStretch * quietPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := runLateTurns(NewPatience(), tt.pause)
				if got < tt.want || got > tt.want+tt.pause+2*longTurn {
					t.Errorf("with pauses of %v it lasted %v, want %v", tt.pause, got, tt.want)
				}
			})
		})
	}
}

func TestPatienceEndsBeforeTheTestBinary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPatience()
		p.deadline = time.Now().Add(20 * time.Second)
		if got := runLateTurns(p, 0); got < 20*time.Second || got > 21*time.Second {
			t.Errorf("the wait lasted %v, the binary 20s", got)
		}
	})
}

func TestACheckThatTakesLongIsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		slow := func() bool { time.Sleep(time.Second); return false } // the bubble's clock
		if Holds(t, slow) {
			t.Error("what never holds, holds")
		}
		if took := time.Since(began); took > quietPatience+2*time.Second {
			t.Errorf("the wait lasted %v", took)
		}
	})
}

func TestAValueEndsTheWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		Eventually(t, "the third time", func() bool { asked++; return asked == 3 })
		c := make(chan int, 1)
		c <- 7
		if v, ok := Receive(t, "a value", c); v != 7 || !ok {
			t.Errorf("received %d, %v", v, ok)
		}
		close(c)
		if _, ok := Receive(t, "the end", c); ok {
			t.Error("received from a channel that is closed")
		}
		if took := time.Since(began); took != firstTurn+2*firstTurn {
			t.Errorf("it took %v, want two turns", took)
		}
	})
}
