package moving

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDoWaitsForCallsAndCallsForIt: no call is inside the gate while it is closed.
func TestDoWaitsForCallsAndCallsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		var steps []string
		step := func(s string) { steps = append(steps, s) }
		if !g.EnterCall() {
			t.Fatal("a call can't enter an open gate")
		}
		go g.Do(func() {
			step("closed")
			time.Sleep(time.Second) // of the bubble
			step("opens")
		})
		synctest.Wait()
		step("first call leaves")
		g.LeaveCall()
		synctest.Wait()
		if !g.EnterCall() { // waits for a second
			t.Fatal("a call can't enter although no move is under way")
		}
		step("second call enters")
		g.LeaveCall()
		want := []string{"first call leaves", "closed", "opens", "second call enters"}
		for i := range want {
			if len(steps) != len(want) || steps[i] != want[i] {
				t.Fatalf("%q, want %q", steps, want)
			}
		}
	})
}

// TestCallsAreInputsWhileAMoveIsUnderWay.
func TestCallsAreInputsWhileAMoveIsUnderWay(t *testing.T) {
	g := newGate()
	g.Do(func() { g.moving.Store(true) })
	if g.EnterCall() {
		t.Error("a call has entered while a move is under way")
	}
	g.Do(func() { g.moving.Store(false) })
	if !g.EnterCall() {
		t.Fatal("a call can't enter")
	}
	g.LeaveCall()
}

// TestInputsDoNotKeepCallsOut: a call that waits for an input enters before the next input.
func TestInputsDoNotKeepCallsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		inputs := 0
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range 10 {
					g.Do(func() {
						inputs++
						time.Sleep(time.Second) // of the bubble
					})
				}
			})
		}
		time.Sleep(time.Second / 2) // the first input is under way, the second waits
		if !g.EnterCall() {
			t.Fatal("a call can't enter although no move is under way")
		}
		if inputs != 1 {
			t.Errorf("a call has waited for %d inputs, want 1", inputs)
		}
		g.LeaveCall()
		all.Wait()
	})
}

// TestTheGateKeepsCallsAndInputsApart when many goroutines use it: the race detector sees all that
// they share.
func TestTheGateKeepsCallsAndInputsApart(t *testing.T) {
	g := newGate()
	shared, calls := 0, 0
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if !g.EnterCall() {
					t.Error("a call can't enter")
					return
				}
				_ = shared
				g.LeaveCall()
			}
		})
		all.Go(func() {
			for range 300 {
				g.Do(func() { shared++; calls++ })
			}
		})
	}
	all.Wait()
	if calls != 4*300 {
		t.Errorf("%d inputs, want %d", calls, 4*300)
	}
}
