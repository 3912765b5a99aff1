//go:build race

package test

// raceFlags are what the binary is built with: like the tests themselves, so that it finds races too.
var raceFlags = []string{"-race"}
