package main

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/cli/terminal"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		main() // it ends the process
	}
	flag.Parse()
	// Nothing of the environment that the tests run in may reach the commands.
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "CONNHUB_") {
			_ = os.Unsetenv(name)
		}
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	removeBinary()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// result is what a command wrote, and its exit code.
type result struct {
	stdout, stderr string
	code           int
}

// connhub runs a command line in this process, with stdin.
func connhub(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := runArgs(t.Context(), args, terminal.New(strings.NewReader(stdin), &stdout, &stderr))
	return result{stdout.String(), stderr.String(), code}
}

// mustRun is connhub for commands that must succeed; it returns what they print.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := connhub(t, "", args...)
	if r.code != terminal.ExitOK {
		t.Fatalf("connhub %q exits %d: %s", args, r.code, r.stderr)
	}
	return r.stdout
}

// parse returns the command line as kong reads it.
func parse(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	line, err := takeCommandLine(&bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	defer returnCommandLine(line)
	_, err = line.parser.Parse(args)
	values := line.values
	return &values, err
}
