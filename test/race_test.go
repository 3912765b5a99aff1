//go:build race

package test

// raceFlags are the flags with which the binary is built. The binary finds races too, like the
// tests themselves.
var raceFlags = []string{"-race"}
