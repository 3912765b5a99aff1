//go:build bench && linux

package engine

import (
	"fmt"
	"time"
)

const (
	// look is the time between two looks at something that is to come. A look costs nothing beside what is measured.
	look = 10 * time.Millisecond
	// settled is how long the hub gets to end what it does behind an answer.
	settled = 50 * time.Millisecond
	// patience is when something that has not come will not come.
	patience = 30 * time.Second
)

// eventually waits until something is so.
func eventually(what string, is func() bool) error {
	for began := time.Now(); !is(); time.Sleep(look) {
		if time.Since(began) > patience {
			return fmt.Errorf("%s did not come", what)
		}
	}
	return nil
}
