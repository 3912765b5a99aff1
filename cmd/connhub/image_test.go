package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// etcdServer are the modules that only an etcd server needs.
var etcdServer = regexp.MustCompile(`^go\.etcd\.io/(etcd/server|raft|bbolt)/`)

// The tag is that of the Dockerfile. Without it, etcd's server is among the packages, so the test
// would notice if it looked for the wrong ones.
func TestTheBinaryOfTheImageHasNoEtcdServer(t *testing.T) {
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
	for _, p := range packagesOf(t, "-tags", string(tag[1])) {
		if etcdServer.MatchString(p) {
			t.Errorf("with -tags %s: %s", tag[1], p)
		}
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", "-tags", string(tag[1]), ".")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("with -tags %s: %v\n%s", tag[1], err, out)
	}
}

// packagesOf lists the packages of the binary; each path ends in a slash.
func packagesOf(t *testing.T, flags ...string) []string {
	t.Helper()
	args := append(append([]string{"list", "-deps", "-f", "{{.ImportPath}}/"}, flags...), ".")
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
