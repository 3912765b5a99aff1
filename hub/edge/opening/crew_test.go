package opening_test

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub/edge/opening"
)

// crewIdle is longer than an idle goroutine of a crew waits.
const crewIdle = 2 * time.Second

// crewSize returns how many goroutines the crew of a test has. Those of earlier tests have ended.
func crewSize() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("opening.(*Crew).runJobs("))
}

func TestACrewUsesItsGoroutinesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crew := opening.NewCrew()
		defer crew.Close()
		ran := 0
		for range 100 {
			crew.Go(func() { ran++ })
			synctest.Wait()
			if n := crewSize(); n != 1 {
				t.Fatalf("%d goroutines after %d jobs in turn, want 1", n, ran)
			}
		}
		if ran != 100 {
			t.Errorf("%d jobs ran", ran)
		}
	})
}

func TestNoJobOfACrewWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crew := opening.NewCrew()
		gate, began := make(chan struct{}), make(chan int, 1000)
		for round := range 2 { // in the second the crew has idle goroutines
			for i := range 500 {
				crew.Go(func() {
					began <- i
					<-gate
				})
			}
			synctest.Wait()
			if len(began) != 500*(round+1) {
				t.Errorf("%d jobs have begun in round %d", len(began), round)
			}
			for range 500 {
				gate <- struct{}{}
			}
			synctest.Wait()
			if n := crewSize(); n == 0 || n > 100 {
				t.Errorf("%d goroutines wait for jobs", n)
			}
		}
		time.Sleep(crewIdle)
		synctest.Wait()
		if n := crewSize(); n != 0 {
			t.Errorf("%d goroutines wait after a time without jobs", n)
		}
		crew.Close()
	})
}

func TestAClosedCrewEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crew := opening.NewCrew()
		gate := make(chan struct{})
		crew.Go(func() {})
		synctest.Wait()
		crew.Go(func() { <-gate })
		crew.Go(func() {})
		synctest.Wait()
		crew.Close()
		synctest.Wait()
		if n := crewSize(); n != 1 {
			t.Errorf("%d goroutines, want the one with work", n)
		}
		close(gate)
		synctest.Wait()
		if n := crewSize(); n != 0 {
			t.Errorf("%d goroutines after the last work", n)
		}
	})
}
