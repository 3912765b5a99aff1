package bed

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Long selects the long form of the tests, `make test-cluster` and `make test-links`, which takes
// too long for every day. It is set by CONNHUB_TEST_LONG and does not change.
var Long = os.Getenv("CONNHUB_TEST_LONG") != ""

// Either picks how much of something a test does: inLong in the long form.
func Either(short, inLong int) int {
	if Long {
		return inLong
	}
	return short
}

// CallLimit bounds calls that end by themselves, on a machine that is busy.
const CallLimit = 2 * time.Minute

// roleVariable gives the test program a role besides that of the tests. Tests start the program
// again in that role.
const roleVariable = "CONNHUB_TEST_ROLE"

// parallelTests is how many tests of a package run at once on any machine: all of them. Most of the
// time a test waits: for a lease to end, for a hub that is stopped, for a client's time to be over.
const parallelTests = "8"

// Main is the TestMain of a package that uses this one. It plays a role if StartHelper has started
// the program. Otherwise it runs the tests and checks that they leave no goroutine behind. roles
// are the main functions of the roles by name; each ends with its standard input. Main ends the
// process.
func Main(m *testing.M, roles map[string]func() error) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "connhub-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(programs); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	flag.Parse()
	if err := flag.Set("test.parallel", parallelTests); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			code = 1
		}
	}
	return code
}

// Report fails the test if err is not nil. The test goes on.
func Report(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
