package bed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/connhub/connhub/internal/testkit"
)

// programs is the folder of the programs that tests build. Main makes and removes it.
var programs string

// noDebugger leaves out tables that only a debugger reads: the link takes half the time.
const noDebugger = "-ldflags=-s -w"

// buildBinary builds connhub, once for all tests. Under the race detector it has the detector too,
// and so finds races like the tests themselves.
var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "connhub")
	args := []string{"build", noDebugger, "-o", path}
	if testkit.RaceEnabled {
		args = append(args, "-race")
	}
	return path, runBuild(goCommand(append(args, "github.com/connhub/connhub/cmd/connhub")...))
})

// buildRoles builds the test program of the package in the working directory, once for all tests,
// without the race detector. Clients and etcd only keep the hubs busy, and take a fraction of the
// processor's time without it. Dependencies are built as for `make build`, so their builds are
// cached.
var buildRoles = sync.OnceValues(func() (string, error) {
	if !testkit.RaceEnabled {
		return os.Args[0], nil
	}
	path := filepath.Join(programs, "roles")
	build := goCommand("test", "-c", "-vet=off", "-trimpath", noDebugger, "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	return path, runBuild(build)
})

func goCommand(args ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), "go", args...)
}

func runBuild(build *exec.Cmd) error {
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build.Args, err, output)
	}
	return nil
}
