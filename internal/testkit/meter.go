package testkit

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// meterTurn is how long the goroutine of a Meter sleeps.
	meterTurn = time.Millisecond
	// handovers is how many goroutines a call of a test passes through at most, one after the other: a call to a hub
	// that asks another one. Each of them may be held up by a pause.
	handovers = 10
	// lateTurn is more than a quiet machine is late but once in a while.
	lateTurn = 10 * time.Millisecond
)

// Meter measures how the machine holds up processes while something goes on that has promised to be quick: how much
// later than it asked for a goroutine of this process is woken, and for how long the threads of the processes wait for
// a processor. It is safe for concurrent use.
type Meter struct {
	began  time.Time
	before map[int]delays // by process
	pause  atomic.Int64   // the longest, ns
	turns  atomic.Int64   // of the goroutine
	late   atomic.Int64   // turns that ended later than lateTurn
	over   chan struct{}
	stop   func()
}

// NewMeter starts a meter of this process and of others that take part. The caller must Stop it.
func NewMeter(others ...int) *Meter {
	m := &Meter{began: time.Now(), before: map[int]delays{}, over: make(chan struct{})}
	for _, process := range append(others, os.Getpid()) {
		m.before[process] = delaysOf(process)
	}
	var running sync.WaitGroup
	running.Go(m.run)
	m.stop = sync.OnceFunc(func() {
		close(m.over)
		running.Wait()
	})
	return m
}

// Stop ends the measurement of pauses, the first time. What was measured stays.
func (m *Meter) Stop() { m.stop() }

func (m *Meter) run() {
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

// Share returns how many of many, from 0 to 1, may have been late since the meter started where share of them may be on a
// quiet machine: as many more as pass through a goroutine that is held up.
func (m *Meter) Share(share float64) float64 {
	return min(1, share+handovers*float64(m.late.Load())/float64(max(1, m.turns.Load())))
}

// Within waits until c is closed, for Limit(d) since the meter started. It reports whether c was.
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

// Limit returns how long something may have taken, since the meter started, that promises to take no longer than d: d,
// the longest pause for each goroutine that it passes through, and the longest delay of each process. It is at most
// 20 times d.
func (m *Meter) Limit(d time.Duration) time.Duration {
	limit := d + handovers*time.Duration(m.pause.Load())
	for process, before := range m.before {
		limit += delaysOf(process).since(before)
	}
	return min(limit, mostStretch*d)
}
