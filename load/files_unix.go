//go:build unix && !aix && !solaris

package load

import "syscall"

// raiseFileLimit raises the limit of open files as far as it may, and returns it; 0: unknown. Go does so when a program
// starts, but whoever embeds this package may have set it back.
func raiseFileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	if limit.Cur < limit.Max {
		raised := limit
		raised.Cur = raised.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return unsigned(limit.Cur)
}

// unsigned is for the systems where the field is an int64.
func unsigned[N int64 | uint64](n N) uint64 { return uint64(n) }
