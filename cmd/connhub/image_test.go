package main

import (
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// etcdServer are the modules that only an etcd server needs.
var etcdServer = regexp.MustCompile(`^go\.etcd\.io/(etcd/server|raft|bbolt)/`)

// The tag is that of the Dockerfile. Without it, etcd's server is among the packages, so the test
// would notice if it looked for the wrong ones. With it, all packages must compile. `make lint`
// runs go vet on them.
func TestTheBinaryOfTheImageHasNoEtcdServer(t *testing.T) {
	t.Parallel()
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	tag := regexp.MustCompile(`go build -tags (\w+) `).FindSubmatch(dockerfile)
	if tag == nil {
		t.Fatal("the Dockerfile builds without a tag")
	}
	if !slices.ContainsFunc(packagesOf(t), etcdServer.MatchString) {
		t.Error("no etcd server in the default binary: connhub dev could not start one")
	}
	compile := append([]string{"-export", "-tags", string(tag[1])}, raceFlags()...)
	for _, p := range packagesOf(t, compile...) {
		if etcdServer.MatchString(p) {
			t.Errorf("with -tags %s: %s", tag[1], p)
		}
	}
}

// raceFlags returns the flags that let the go command use the packages that were compiled for these
// tests: they are in the build cache.
func raceFlags() []string {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(
		info.Settings, debug.BuildSetting{Key: "-race", Value: "true"},
	) {
		return []string{"-race"}
	}
	return nil
}

// packagesOf lists the packages of the binary; each path ends in a slash. With the flag -export it
// compiles them.
func packagesOf(t *testing.T, flags ...string) []string {
	t.Helper()
	args := append(append([]string{"list", "-deps", "-f", "{{.ImportPath}}/"}, flags...), ".")
	command := exec.CommandContext(t.Context(), "go", args...)
	var problems strings.Builder
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &problems)
	}
	return strings.Fields(string(out))
}
