//go:build race

package main

// raceFlags let the go command use the packages that were compiled for these tests: they are in the
// build cache.
var raceFlags = []string{"-race"}
