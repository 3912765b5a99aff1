package bed

import (
	"testing"

	"github.com/connhub/connhub/internal/testkit"
)

// freePorts are the flags of a hub whose three ports are free ones of loopback.
var freePorts = []string{
	"--listen-clients=127.0.0.1:0", "--listen-control=127.0.0.1:0", "--listen-ops=127.0.0.1:0",
}

// NoDrain are the flags of a hub that closes its clients at once when it stops. Tests of the drain
// append their own.
var NoDrain = []string{"--drain-delay=0s", "--drain-period=0s"}

// ServeArgs returns the arguments of a `serve` without peers, with the secrets of package testkit.
func ServeArgs(t *testing.T, more ...string) []string {
	t.Helper()
	return hubArgs("serve", append([]string{
		"--public-url=https://hub.example/edge",
		"--token-key-file=" + testkit.WriteFile(t, "token.key", testkit.SomeKey+"\n"),
		"--backend-secret-file=" + testkit.WriteFile(t, "backend",
			"# rotation\n"+testkit.SomeSecret+"\n"),
		"--single-hub",
	}, more...))
}

// InsecureArgs returns the arguments of a `serve` without peers that asks clients and backends for
// no secret.
func InsecureArgs(more ...string) []string {
	return hubArgs("serve", append([]string{"--insecure-dev", "--single-hub"}, more...))
}

// MemberArgs returns the arguments of a `serve` in the cluster of the etcd at an address. It asks
// clients, backends and peers for no secret.
func MemberArgs(etcd string, more ...string) []string {
	return hubArgs("serve", append([]string{
		"--insecure-dev", "--etcd-endpoints=" + etcd,
	}, more...))
}

// DevArgs returns the arguments of a `dev` with an etcd and a folder of its own.
func DevArgs(t *testing.T, more ...string) []string {
	t.Helper()
	return hubArgs("dev", append([]string{
		"--etcd-listen=127.0.0.1:0", "--data-dir=" + t.TempDir(),
	}, more...))
}

// hubArgs returns the arguments of a command that runs a hub on free ports.
func hubArgs(command string, flags []string) []string {
	args := append([]string{command}, freePorts...)
	if command == "serve" {
		args = append(args, NoDrain...)
	}
	return append(args, flags...)
}
