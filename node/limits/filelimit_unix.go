//go:build unix

package limits

import (
	"math"
	"syscall"
)

// FileLimit returns how many files the process may have open. Go raises that to the hard limit at
// the start of a process.
func FileLimit() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err //nolint:wrapcheck // the caller adds the context
	}
	// "Unlimited" is the largest number. The limit is signed on FreeBSD.
	return int(min(uint64(limit.Cur), math.MaxInt32)), nil //nolint:unconvert // as said
}
