package testkit

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// meterTurn is the time that the goroutine of a Meter sleeps in each turn.
	meterTurn = time.Millisecond
	// handovers is the most goroutines that a test's call passes through in a row: a call to a hub
	// that calls a second hub. A pause may delay each of them.
	handovers = 10
	// lateTurn is a delay that is rare on a quiet machine.
	lateTurn = 10 * time.Millisecond
)

// Meter measures how much the machine delays processes while a test times a promise: the pauses of
// a goroutine of this process, and the time that threads of the measured processes wait for a
// processor. It is safe for concurrent use.
type Meter struct {
	began  time.Time
	before map[int]delays // at the start, by process
	pause  atomic.Int64   // the longest pause, ns
	turns  atomic.Int64   // turns of the goroutine
	late   atomic.Int64   // turns that ended later than lateTurn
	over   chan struct{}
	stop   func()
}

// NewMeter starts a meter of this process and of the processes with the given ids. The caller must
// Stop it.
func NewMeter(processes ...int) *Meter {
	m := &Meter{began: time.Now(), before: map[int]delays{}, over: make(chan struct{})}
	for _, process := range append(processes, os.Getpid()) {
		m.before[process] = delaysOf(process)
	}
	var running sync.WaitGroup
	running.Go(m.measurePauses)
	m.stop = sync.OnceFunc(func() {
		close(m.over)
		running.Wait()
	})
	return m
}

// Stop ends the measurement of pauses and keeps the results. Only the first call counts.
func (m *Meter) Stop() { m.stop() }

// measurePauses runs until Stop.
func (m *Meter) measurePauses() {
	timer := time.NewTimer(meterTurn)
	defer timer.Stop()
	for {
		asked := time.Now()
		timer.Reset(meterTurn)
		select {
		case <-timer.C:
			pause := time.Since(asked) - meterTurn
			m.pause.Store(max(m.pause.Load(), int64(pause)))
			m.turns.Add(1)
			if pause > lateTurn {
				m.late.Add(1)
			}
		case <-m.over:
			return
		}
	}
}

// Pause returns the longest pause since the meter started.
func (m *Meter) Pause() time.Duration { return time.Duration(m.pause.Load()) }

// Share returns the share of calls, from 0 to 1, that may be late since the meter started. share is
// the allowed share on a quiet machine. Share adds the calls that pass through a delayed goroutine.
func (m *Meter) Share(share float64) float64 {
	return min(1, share+handovers*float64(m.late.Load())/float64(max(1, m.turns.Load())))
}

// Within waits until c is closed, at most until Limit(d) after the start of the meter. It reports
// whether c was closed.
func (m *Meter) Within(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d - time.Since(m.began))
	defer timer.Stop()
	for {
		select {
		case <-c:
			return true
		case <-timer.C:
		}
		left := m.Limit(d) - time.Since(m.began)
		if left <= 0 {
			return false
		}
		timer.Reset(left)
	}
}

// Limit returns the longest time since the meter started that keeps a promise of d. It is the sum
// of d, the longest pause for each of the handovers, and the longest delay of each process, but at
// most mostStretch times d.
func (m *Meter) Limit(d time.Duration) time.Duration {
	limit := d + handovers*time.Duration(m.pause.Load())
	for process, before := range m.before {
		limit += delaysOf(process).longestSince(before)
	}
	return min(limit, mostStretch*d)
}
