//go:build unix && !aix && !solaris

package load

import "syscall"

// raiseFileLimit raises the limit of open files as far as the system allows, and returns it. It
// returns 0 if the limit is unknown. Go raises the limit when a program starts, but a program that
// embeds this package may have set it back.
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
	return toUnsigned(limit.Cur)
}

// toUnsigned converts a field of Rlimit. The field is an int64 on some systems.
func toUnsigned[N int64 | uint64](n N) uint64 { return uint64(n) }
