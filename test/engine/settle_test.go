//go:build bench && linux

package engine

import (
	"fmt"
	"time"
)

const (
	// look is the time between two checks of a condition. A check costs nothing beside the measured
	// work.
	look = 10 * time.Millisecond
	// settled is the time that the hub gets for its work behind an answer. The tests sleep: to look
	// for the end of that work would cost CPU of the measured process.
	settled = 50 * time.Millisecond
	// patience bounds the wait for a condition.
	patience = 30 * time.Second
)

// settle gives the hub its time for work behind an answer.
func settle() { time.Sleep(settled) }

// eventually waits until the condition is true.
func eventually(what string, is func() bool) error {
	clock := time.NewTicker(look)
	defer clock.Stop()
	for began := time.Now(); !is(); <-clock.C {
		if time.Since(began) > patience {
			return fmt.Errorf("%s did not come", what)
		}
	}
	return nil
}
