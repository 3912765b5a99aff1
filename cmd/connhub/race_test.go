//go:build race

package main

// raceFlags are what the binary is built with: like the tests themselves, so that it finds races too, and so that all but
// the last step of the build is done.
var raceFlags = []string{"-race"}
