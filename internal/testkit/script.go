package testkit

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expectations in files anew")

// IsUpdating reports whether the flag -update is set: the expectations in files are to be written
// anew.
func IsUpdating() bool { return *update }

// PlayScripts plays each script of testdata, every .txt file, in a subtest with its name. A script
// is a list of commands, each with its effects:
//
//	send A g:lobby
//	----
//	to B (flood)
//
// A command without an effect has "ok". Comments begin with #. begin is called for each script and
// returns the function that carries out a command, given its words, and returns the effects, a
// line each. With -update the effects are written anew; read them afterwards.
func PlayScripts(
	t *testing.T, begin func(t *testing.T) (run func(words []string) (effects string, err error)),
) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			playScript(t, file, begin(t))
		})
	}
}

func playScript(t *testing.T, file string, run func(words []string) (effects string, err error)) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	isOld := false // inside an old expectation
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			isOld = false
			got.WriteString("\n")
		case isOld:
		case line == "----":
			isOld = true
		case strings.HasPrefix(line, "#"):
			got.WriteString(line + "\n")
		default:
			effects, err := run(strings.Fields(line))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if effects == "" {
				effects = "ok\n"
			}
			got.WriteString(line + "\n----\n" + effects)
		}
	}
	if IsUpdating() {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got.String(), "\n"))
	if diff != "" {
		t.Errorf("not what the scenario says (-update accepts it):\n%s", diff)
	}
}
