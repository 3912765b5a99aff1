package test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVariable gives this program a role besides that of the tests. Tests start the program again
// in that role.
const roleVariable = "CONNHUB_TEST_ROLE"

// roles are the main functions of the roles. Each ends with its standard input.
var roles = map[string]func() error{
	etcdRole:   serveEtcd,
	crowdRole:  serveCrowd,
	guestsRole: serveGuests,
	churnRole:  serveChurn,
}

// parallelTests is how many tests run at once on any machine. Most of the time a test waits: for a
// lease to end, for a hub that is stopped, for a client's time to be over.
const parallelTests = "5"

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaryDir, err = os.MkdirTemp("", "connhub-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(binaryDir); err != nil {
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
