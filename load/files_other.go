//go:build !unix || aix || solaris

package load

// raiseFileLimit returns 0: the limit is unknown on these systems.
func raiseFileLimit() uint64 { return 0 }
