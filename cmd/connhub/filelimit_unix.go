//go:build unix

package main

import (
	"math"
	"syscall"
)

// fileLimit returns how many files the process may have open. Go raises that to the hard limit at
// the start of a process.
func fileLimit() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err //nolint:wrapcheck // the caller adds the context
	}
	// "Unlimited" is the largest number. The limit is signed on FreeBSD.
	return int(min(uint64(limit.Cur), math.MaxInt32)), nil //nolint:unconvert // as said
}
