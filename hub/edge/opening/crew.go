package opening

import (
	"sync/atomic"
	"time"
)

const (
	// crewKept is how many idle goroutines a Crew keeps. Each has a stack of 8 to 16 KB.
	crewKept = 64
	// crewIdle is how long an idle goroutine waits for a connection.
	crewIdle = time.Second
)

// Crew runs the work for connections until they are links.
//
// Problem: a goroutine begins with a stack of 2 KB. To read a request and to check a token it needs
// four times as much. The runtime copies the stack each time it grows. That took some 3 µs of the
// 24 µs that a connecting client costs.
//
// Outline: a goroutine that has ended its work waits for the next connection, with the stack that
// it has. A new goroutine starts only while none waits.
//
// A Crew is safe for concurrent use.
type Crew struct {
	jobs   chan func()
	closed chan struct{}
	idle   atomic.Int64 // goroutines that wait
}

// NewCrew returns a crew without goroutines.
func NewCrew() *Crew { return &Crew{jobs: make(chan func()), closed: make(chan struct{})} }

// Go runs do on a goroutine of its own, and returns at once.
func (c *Crew) Go(do func()) {
	select {
	case c.jobs <- do:
	default:
		go c.runJobs(do)
	}
}

// Close ends the idle goroutines, and each further goroutine after its work. It must be called
// once, after the last Go.
func (c *Crew) Close() { close(c.closed) }

// runJobs runs do, and later jobs.
func (c *Crew) runJobs(do func()) {
	do()
	limit := time.NewTimer(crewIdle)
	defer limit.Stop()
	for do = c.waitForJob(limit); do != nil; do = c.waitForJob(limit) {
		do()
		limit.Reset(crewIdle)
	}
}

// waitForJob returns the next job, or nil if the goroutine must end.
func (c *Crew) waitForJob(limit *time.Timer) func() {
	defer c.idle.Add(-1)
	if c.idle.Add(1) > crewKept {
		return nil
	}
	select {
	case do := <-c.jobs:
		return do
	case <-limit.C:
	case <-c.closed:
	}
	return nil
}
