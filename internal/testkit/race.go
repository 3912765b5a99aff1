//go:build race

package testkit

// RaceEnabled reports whether the tests run with the race detector, which makes memory larger and
// code about ten times slower.
const RaceEnabled = true
