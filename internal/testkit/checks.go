package testkit

import (
	"flag"
	"strconv"
	"testing"
)

// SetChecks has rapid check each property that often until the test ends. The flag -rapid.checks
// wins over it. The number belongs to the process: t must not be parallel to other tests with
// properties.
func SetChecks(t testing.TB, checks int) {
	t.Helper()
	number := flag.Lookup("rapid.checks")
	if number.Value.String() != number.DefValue {
		return
	}
	if err := number.Value.Set(strconv.Itoa(checks)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = number.Value.Set(number.DefValue) })
}

// SetChecksUnderRace is SetChecks under the race detector, and does nothing elsewhere. It is for
// code without goroutines: the detector finds nothing there, and makes each check slower. NO_RACE
// in the Makefile must name such a test: make test runs it in full without the detector.
func SetChecksUnderRace(t testing.TB, checks int) {
	t.Helper()
	if RaceEnabled {
		SetChecks(t, checks)
	}
}
