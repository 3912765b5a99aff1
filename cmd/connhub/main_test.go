package main

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/cli/terminal/terminaltest"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) {
	flag.Parse()
	testkit.ClearVariables()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// program runs a command line in this process.
var program terminaltest.Program = runArgs

// parse returns the command line as kong reads it.
func parse(t *testing.T, args ...string) (*commandSet, error) {
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
